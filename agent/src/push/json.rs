use serde_json::{Map, Value};

/// Faults that are listed in one answer.
const MAX_FAULTS: usize = 10;

/// A body that can't be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// It is not JSON.
    #[error("{0}")]
    Json(String),
    /// It is JSON, and some records of it are wrong: their faults, one a line.
    #[error("{}", .0.join("\n"))]
    Records(Vec<String>),
}

/// Reads the objects of a body and turns each into a record; every fault names its record, counted from 1.
pub fn records<T>(body: &[u8], convert: impl Fn(Map<String, Value>) -> Result<T, String>) -> Result<Vec<T>, BodyFault> {
    let mut taken = Vec::new();
    // Only those that are shown are kept: a body can hold hundreds of thousands.
    let (mut faults, mut wrong) = (Vec::new(), 0);
    let mut take = |value: Value| {
        let number = taken.len() + wrong + 1;
        let result = match value {
            Value::Object(object) => convert(object),
            other => Err(format!("an object is needed, this is {}", name_of(&other))),
        };
        match result {
            Ok(record) => taken.push(record),
            Err(fault) => {
                wrong += 1;
                if wrong <= MAX_FAULTS {
                    faults.push(format!("record {number}: {fault}"));
                }
            }
        }
    };
    // NDJSON is a sequence of values with white space between them, and so is a single object or array.
    for value in serde_json::Deserializer::from_slice(body).into_iter::<Value>() {
        match value {
            Ok(Value::Array(values)) => values.into_iter().for_each(&mut take),
            Ok(value) => take(value),
            Err(error) => {
                return Err(BodyFault::Json(format!(
                    "the body is not JSON: {error}; send one object, an array of objects, or one object a line"
                )));
            }
        }
    }
    if wrong > 0 {
        if wrong > MAX_FAULTS {
            faults.push(format!("and {} more", wrong - MAX_FAULTS));
        }
        return Err(BodyFault::Records(faults));
    }
    if taken.is_empty() {
        return Err(BodyFault::Json(
            "the body holds no record; send one object, an array of objects, or one object a line".to_owned(),
        ));
    }
    Ok(taken)
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(body: &str) -> Result<Vec<String>, String> {
        let convert = |object: Map<String, Value>| match object.get("name") {
            Some(Value::String(name)) => Ok(name.clone()),
            _ => Err("name is missing".to_owned()),
        };
        records(body.as_bytes(), convert).map_err(|e| e.to_string())
    }

    #[test]
    fn one_object_an_array_and_lines_are_all_taken() {
        assert_eq!(names(r#"{"name":"a"}"#).unwrap(), ["a"]);
        assert_eq!(names(r#"[{"name":"a"},{"name":"b"}]"#).unwrap(), ["a", "b"]);
        assert_eq!(names("{\"name\":\"a\"}\n{\"name\":\"b\"}\n").unwrap(), ["a", "b"]);
    }

    #[test]
    fn a_wrong_record_refuses_the_body_and_is_named() {
        assert_eq!(
            names(r#"[{"name":"a"},{},7]"#).unwrap_err(),
            "record 2: name is missing\nrecord 3: an object is needed, this is a number"
        );
        for bad in ["", "[]", "   \n"] {
            assert!(names(bad).unwrap_err().starts_with("the body holds no record"), "{bad:?}");
        }
        for bad in ["{", "{\"name\": NaN}", "name=a", "{\"name\":\"a\"} trailing", "\u{0}"] {
            assert!(names(bad).unwrap_err().starts_with("the body is not JSON"), "{bad:?}");
        }
        let many = format!("[{}]", vec!["{}"; 30].join(","));
        let error = names(&many).unwrap_err();
        assert_eq!(error.lines().count(), 11);
        assert!(error.ends_with("and 20 more"));
        assert!(names(&"[".repeat(100_000)).unwrap_err().contains("recursion limit"));
    }
}
