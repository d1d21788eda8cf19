//! Attacks: callers that try to take more than their share, one file for each kind. Each tells what the attack did before it
//! was bounded, and asserts what it may still do.

mod costly_documents;
