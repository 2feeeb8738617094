//! The shortest use: pick an endpoint, send the request with your own client, record the outcome.
//!
//! ```sh
//! cargo run --example hello
//! ```

use evenkeel::{Cluster, Fleet, Outcome};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let servers = ["10.0.0.1:80", "10.0.0.2:80"].map(String::from);
    let fleet: Fleet<String> = servers.into_iter().collect();
    for _ in 0..4 {
        let lease = fleet.pick_endpoint()?;
        let answer = fetch(lease.endpoint());
        lease.record(Outcome::from(&answer));
        println!("{}", answer?);
    }
    Ok(())
}

/// Stands in for your client.
fn fetch(address: &str) -> Result<String, std::io::Error> {
    Ok(format!("hello from {address}"))
}
