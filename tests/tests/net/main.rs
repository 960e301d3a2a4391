//! Behaviour with real sockets: the real command on a hostile host, in namespaces of each test's
//! own.

mod bed;
