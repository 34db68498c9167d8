//! Dialects: requests become typed values, decisions become bytes. Nothing is decided here.

mod aadsts;
mod advice;
pub mod discovery;
pub mod entra;
mod form;
pub mod instance;
mod response;

pub use aadsts::Surface;
pub use advice::{advice, error_page};
pub use response::{Ids, Wire};
