//! The record, read back: the log and what was set aside of it, line by line, in bounded memory.

mod entry;
mod field;
mod filter;
mod lines;
mod log;
mod top;

pub use entry::{Answer, Asserted, Entry, Near};
pub use field::Field;
pub use filter::{Filter, Fit, Pattern};
pub use lines::{Line, Reading};
pub use log::Log;
pub use top::{Count, Top};
