//! What do policies do to callers? Simulates scenarios and shows it.

fn main() {}
