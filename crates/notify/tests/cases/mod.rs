mod alertmanager;
mod chat;
mod config;
mod email;
mod pagerduty;
mod sms;
mod texts;
mod webhook;
