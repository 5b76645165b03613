//! HTTP.

mod message;
