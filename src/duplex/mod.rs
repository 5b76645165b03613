//! Sealed two-way connections (PROTOCOL section 6).
