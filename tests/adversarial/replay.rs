//! What the fuzzer begins with, and what it has ever found, through the readers that it tries.

#[path = "../fuzz/src/targets.rs"]
mod targets;

use std::fs;
use std::path::Path;

#[test]
fn what_was_ever_fuzzed_is_read_without_harm() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    for target in targets::ALL {
        // Git keeps no empty folder: nothing found is no folder.
        for (folder, required) in [("seeds", true), ("regressions", false)] {
            let folder = fuzz.join(folder).join(target.name);
            let inputs: Vec<_> = fs::read_dir(&folder).into_iter().flatten().collect();
            assert!(!required || !inputs.is_empty(), "{}", folder.display());
            for input in inputs {
                let input = input.unwrap().path();
                println!("{}: {}", input.display(), (target.run)(&fs::read(&input).unwrap()));
            }
        }
    }
}
