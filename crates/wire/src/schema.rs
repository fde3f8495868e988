//! JSON Schema of every message, and the AsyncAPI document of all topics, generated from the types.

use schemars::{Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Value, json};

use crate::messages::*;
use crate::{CONTENT_TYPE, Record, VERSION};

/// One message with the topic it travels on, for documentation.
pub struct Message {
    /// File name stem of its schema and golden file.
    pub name: &'static str,
    /// The topic, with parameters in braces as AsyncAPI writes them.
    pub topic: &'static str,
    /// Whether the broker keeps the last one.
    pub retained: bool,
    /// Its JSON Schema.
    pub schema: Schema,
}

/// Every message of the protocol, in the order of the design's topic table.
pub fn messages() -> Vec<Message> {
    fn schema<T: schemars::JsonSchema>() -> Schema {
        SchemaGenerator::new(SchemaSettings::draft2020_12()).into_root_schema_for::<T>()
    }
    let message = |name, topic, retained, schema| Message { name, topic, retained, schema };
    vec![
        message("status", "utilizer/v1/telemetry/{host}/status", true, schema::<Status>()),
        message("alerts-active", "utilizer/v1/telemetry/{host}/alerts/active", true, schema::<ActiveAlerts>()),
        message("audit", "utilizer/v1/telemetry/{host}/audit", true, schema::<AuditHeads>()),
        message("metrics", "utilizer/v1/telemetry/{host}/metrics", false, schema::<Record<Metrics>>()),
        message("logs", "utilizer/v1/telemetry/{host}/logs", false, schema::<Record<Logs>>()),
        message("alerts", "utilizer/v1/telemetry/{host}/alerts", false, schema::<Record<AlertTransition>>()),
        message("pipeline", "utilizer/v1/telemetry/{host}/pipeline", false, schema::<Record<Pipeline>>()),
        message("jobs", "utilizer/v1/telemetry/{host}/jobs", false, schema::<Record<JobTransition>>()),
        message("confirmed", "utilizer/v1/command/{host}/confirmed/{group}/{member}", false, schema::<Confirmation>()),
        message("run-job", "utilizer/v1/command/{host}/jobs", false, schema::<RunJob>()),
        message("ack", "utilizer/v1/command/{host}/ack", false, schema::<Acknowledge>()),
        message("control", "utilizer/v1/command/{host}/control", false, schema::<Control>()),
        message("silence", "utilizer/v1/fleet/silences/{id}", true, schema::<Silence>()),
        message("tier-status", "utilizer/v1/tier/{group}/{member}/status", true, schema::<TierStatus>()),
    ]
}

/// The AsyncAPI 3.0 document: every topic, with its message and whether it is retained.
pub fn asyncapi() -> Value {
    let mut channels = serde_json::Map::new();
    let mut operations = serde_json::Map::new();
    for message in messages() {
        let parameters: serde_json::Map<_, _> = message
            .topic
            .split(['{', '}'])
            .skip(1)
            .step_by(2)
            .map(|name| (name.to_owned(), json!({ "description": format!("The {name}'s name.") })))
            .collect();
        channels.insert(
            message.name.to_owned(),
            json!({
                "address": message.topic,
                "parameters": parameters,
                "messages": { message.name: {
                    "contentType": CONTENT_TYPE,
                    "payload": { "$ref": format!("./{}.json", message.name) },
                } },
            }),
        );
        operations.insert(
            format!("publish-{}", message.name),
            json!({
                "action": "send",
                "channel": { "$ref": format!("#/channels/{}", message.name) },
                "bindings": { "mqtt": { "qos": 1, "retain": message.retained } },
            }),
        );
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "utilizer telemetry",
            "version": format!("{VERSION}.0.0"),
            "description": "What utilizer's agents, exporters and tools say to each other over MQTT v5.",
        },
        "channels": channels,
        "operations": operations,
    })
}
