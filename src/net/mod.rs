//! The room between the operating system's sockets and a service: accept, TLS, limits, bounded bodies.
//!
//! A [`Listener`] is bound first and serves later, so that port 0 and "port in use" are known before anything else
//! starts. Each connection is a task of its own that speaks HTTP/2 or HTTP/1.1 as ALPN decided and is watched: a head
//! that trickles in, or a connection on which nothing happens, is closed. Where all places are taken, who does nothing with
//! theirs makes room. Certificates come from files or from an authority of our own. Who a client is behind trusted proxies,
//! and how often one may ask, is counted here as well.
//!
//! Deliberately absent: tokens, routes, status codes of ours, admission (the service decides what it refuses), reading
//! the clock for certificates (time is an argument), HTTP/2 without TLS, upgrades, and client certificates.

mod addresses;
mod body;
mod certificate;
mod client;
mod connection;
mod descriptors;
mod frames;
mod limits;
mod listener;
mod places;
mod rate;
mod selfmade;
mod tls;
mod watch;

pub use addresses::Addresses;
pub use body::{Bodies, BodyError, discard, read};
pub use certificate::{Certificate, TlsError};
pub use client::Proxies;
pub use connection::Peer;
pub use descriptors::room_for_connections;
pub use limits::Limits;
pub use listener::{Listener, Setup};
pub use places::Gauges;
pub use rate::{Bucket, Quota};
pub use selfmade::{Authority, authority};
pub use tls::TlsSettings;
