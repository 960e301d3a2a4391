//! What netbpf's tests share.
