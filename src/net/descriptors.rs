//! File descriptors, of which a connection takes one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept for operators' connections, those that have been dismissed and are not gone, the audit log, key files and requests
/// to issuers; where there are few descriptors, half of them.
const RESERVE: u64 = 192;

/// Raises the soft limit of open files to the hard one and tells how many connections fit below it. Without that the
/// limit of connections would never bite: at the usual 1,024 accepting fails first, and with it everything else that
/// opens a file.
pub fn room_for_connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    let room = current.map_or(u64::MAX, |files| (files - RESERVE.min(files / 2)).max(1));
    usize::try_from(room).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let room = room_for_connections();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert!(limit.current.is_none_or(|files| room as u64 <= files));
    }
}
