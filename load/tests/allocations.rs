//! How often an exchange asks for memory, everything on its way included: record, metrics, and the thread that writes the
//! audit log. Counted, not timed, so the budgets hold on any machine.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    dead_code,
    reason = "a test program has no outside, and panics to fail; parts are shared with another"
)]

#[path = "../benches/exchange/spine.rs"]
mod spine;

use std::alloc::System;

use spine::{ES256, RS256, SUBJECT, Spine};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATIONS: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const EXCHANGES: usize = 200;

/// Allocations of one exchange on average, once everything is warm.
fn allocations(runtime: &Runtime, tokens: &str, resource: &str, subject: &str, distinct: bool) -> usize {
    let spine = runtime.block_on(async { Spine::new(tokens) });
    let number = |index: usize| if distinct { index } else { 0 };
    let requests: Vec<_> = (0..2 * EXCHANGES)
        .map(|index| Spine::request(&spine.signer.assertion(number(index), subject), resource))
        .collect();
    let (warm, measured) = requests.split_at(EXCHANGES);
    for request in warm {
        let _ = runtime.block_on(spine.ask(request));
    }
    let region = Region::new(ALLOCATIONS);
    for request in measured {
        let _ = runtime.block_on(spine.ask(request));
    }
    let change = region.change();
    (change.allocations + change.reallocations) / EXCHANGES
}

/// One test: whatever runs beside it would be counted too.
#[test]
fn an_exchange_keeps_to_its_budget_of_allocations() {
    let runtime = Runtime::new().unwrap();
    let mut over = Vec::new();
    for (what, tokens, resource, subject, distinct, budget) in [
        ("fresh RS256", "", RS256, SUBJECT, true, BUDGET_FRESH),
        ("fresh ES256", "", ES256, SUBJECT, true, BUDGET_FRESH),
        ("repeated", "", RS256, SUBJECT, false, BUDGET_REPEATED),
        ("wrong subject", "", RS256, "somebody else", true, BUDGET_REFUSED),
    ] {
        let counted = allocations(&runtime, tokens, resource, subject, distinct);
        println!("{what}: {counted} allocations of at most {budget}");
        if counted > budget {
            over.push(format!("{what}: {counted} allocations, {budget} budgeted"));
        }
    }
    assert!(over.is_empty(), "{over:#?}");
}

const BUDGET_FRESH: usize = 90;
const BUDGET_REPEATED: usize = 40;
const BUDGET_REFUSED: usize = 72;
