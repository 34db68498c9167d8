//! Sockets, TLS, limits and bodies; generic over a service.
