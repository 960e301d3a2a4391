//! netbpf's user space: intent → plan → maps.
