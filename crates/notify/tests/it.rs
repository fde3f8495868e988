//! What services are called with, held to what they document.

mod cases;
mod support;
