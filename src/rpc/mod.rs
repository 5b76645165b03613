//! JSON-RPC over tower, sealed message by message.
