#!/usr/bin/env python3
"""The house rules that no lint knows: layers, orderings, who names atomics, file lengths, leftovers."""

import pathlib
import re
import sys

# A module imports only from rows above its own, and from its own row what is listed.
ROWS = [
    {"sync", "time", "error", "endpoint", "options", "outcome", "settings"},
    {"health"},
    {"shared"},
    {"member"},
    {"balancer"},
    {"transport", "cluster"},
    {"caller", "failover"},
    {"fleet"},
    {"sim"},
]
SAME_ROW = {
    ("time", "sync"),
    ("endpoint", "sync"),
    ("outcome", "time"),
    ("cluster", "transport"),
    ("settings", "error"),
}
LONGEST = 450
ROW_OF = {module: row for row, modules in enumerate(ROWS) for module in modules}

broken = []
source = pathlib.Path("src")


def layers(path, text):
    here = path.relative_to(source).parts[0].removesuffix(".rs")
    if here in ("lib", "docs"):
        return
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("//"))
    for there in re.findall(r"\bcrate::(\w+)", code):
        if there == here:
            continue
        if there not in ROW_OF:
            broken.append(f"{path}: crate::{there} is in no row; name the module it lives in")
        elif ROW_OF[there] > ROW_OF[here]:
            broken.append(f"{path}: {here} must not know {there}")
        elif ROW_OF[there] == ROW_OF[here] and (here, there) not in SAME_ROW:
            broken.append(f"{path}: {here} and {there} stand in one row")


def orderings(path, lines):
    for number, line in enumerate(lines, 1):
        if not re.search(r"Ordering::(Relaxed|Acquire|Release|AcqRel|SeqCst)", line.split("//")[0]):
            continue
        above = lines[max(0, number - 7) : number]
        if not any("ORDERING:" in comment for comment in above):
            broken.append(f"{path}:{number}: an ordering without its ORDERING: comment")


# Clippy's disallowed types see through a re-export, and would forbid `crate::sync` too.
ONLY_IN = {
    r"std::sync::atomic|arc_swap|parking_lot|std::sync::(Mutex|RwLock)\b": "sync.rs",
    r"Instant::now|SystemTime|\.elapsed\(\)": "time.rs",
}


def names(path, text):
    for pattern, home in ONLY_IN.items():
        found = re.search(pattern, code_of(text))
        if found and path.name != home:
            broken.append(f"{path}: names {found[0]}; only {home} may")


def code_of(text):
    return "\n".join(line.split("//")[0] for line in text.splitlines())


for path in sorted(source.rglob("*.rs")):
    text = path.read_text()
    layers(path, text)
    orderings(path, text.splitlines())
    names(path, text)

for folder in ("src", "tests", "examples", "benches"):
    for path in sorted(pathlib.Path(folder).rglob("*.rs")):
        if "target" in path.parts:
            continue
        text = path.read_text()
        if len(text.splitlines()) > LONGEST:
            broken.append(f"{path}: over {LONGEST} lines")
        for left in re.findall(r"\b(todo!|unimplemented!|dbg!|FIXME|TODO)", text):
            broken.append(f"{path}: {left} is left over")
        if "#[ignore]" in text:
            broken.append(f"{path}: an ignored test without its reason")

print("\n".join(broken) or "house rules hold")
sys.exit(bool(broken))
