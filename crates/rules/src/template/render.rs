//! Fills a template in.

use super::functions;
use super::parse::{Body, Command, Node, Operand, Pipe, Term, VARIABLES};
use super::tree::{self, Tree};
use super::value::Val;
use super::{
    Data, Dialect, Fault, Filled, LOOKS_PER_STEP, MAX_DEPTH, MAX_NOTIFICATION_STEPS, MAX_OUTPUT, MAX_STEPS, MAX_TEXT,
    Query,
};
use crate::Labels;
use crate::ast::Millis;
use crate::eval::{Options, Work};

pub(super) fn render(body: &Body, data: &Data<'_>, query: &Query<'_>) -> Result<String, Fault> {
    // Most labels are plain texts.
    if let [Node::Literal(text)] = body.nodes.as_slice() {
        return Ok(text.clone());
    }
    let values = [
        Val::Root,
        Val::Labels(data.labels.clone()),
        Val::Labels(data.external_labels.clone()),
        Val::text(data.external_url),
        Val::Float(data.value),
    ];
    let variables = VARIABLES.iter().map(|name| (*name).to_owned()).zip(values).collect();
    let mut renderer = Renderer::new(body, data, query, variables, Dialect::Rules);
    renderer.nodes(&body.nodes, &Val::Root)?;
    Ok(renderer.out)
}

/// Of a notification.
pub(super) fn fill(body: &Body, root: &Tree, now: Millis) -> Result<Filled, Fault> {
    let none = Labels::none();
    // Its own bounds are reached first.
    let work = Work::new(&Options::default());
    let data = Data { labels: &none, value: 0.0, external_labels: &none, external_url: "", at: now, work: &work };
    let root = root.value();
    let variables = vec![("$".to_owned(), root.clone())];
    let query = |_: &str| Err("BUG: notifications have no queries".to_owned());
    let mut renderer = Renderer::new(body, &data, &query, variables, Dialect::Notifications);
    match renderer.nodes(&body.nodes, &root) {
        Err(_) if renderer.bounded => {
            let mut text = renderer.out;
            let mut end = text.len().min(MAX_OUTPUT);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            Ok(Filled { text, cut: true })
        }
        Err(fault) => Err(fault),
        Ok(_) => Ok(Filled { text: renderer.out, cut: false }),
    }
}

struct Renderer<'a> {
    body: &'a Body,
    data: &'a Data<'a>,
    query: &'a Query<'a>,
    variables: Vec<(String, Val)>,
    out: String,
    steps: usize,
    depth: usize,
    dialect: Dialect,
    /// A bound was reached.
    bounded: bool,
}

/// How a list of nodes ended.
#[derive(PartialEq)]
enum Flow {
    Next,
    Break,
    Continue,
}

impl<'a> Renderer<'a> {
    fn new(
        body: &'a Body,
        data: &'a Data<'a>,
        query: &'a Query<'a>,
        variables: Vec<(String, Val)>,
        dialect: Dialect,
    ) -> Self {
        Self { body, data, query, variables, out: String::new(), steps: 0, depth: 0, dialect, bounded: false }
    }

    fn step(&mut self, at: usize) -> Result<(), Fault> {
        self.steps += 1;
        let most = if self.dialect == Dialect::Rules { MAX_STEPS } else { MAX_NOTIFICATION_STEPS };
        if self.steps > most {
            self.bounded = true;
            return Err(Fault::new(at, format!("more than {most} steps")));
        }
        self.data.work.look(LOOKS_PER_STEP).map_err(|error| Fault::new(at, error.to_string()))?;
        if self.out.len() > MAX_OUTPUT {
            self.bounded = true;
            return Err(Fault::new(at, format!("the text grows longer than {MAX_OUTPUT} bytes")));
        }
        Ok(())
    }

    fn nodes(&mut self, nodes: &[Node], dot: &Val) -> Result<Flow, Fault> {
        for node in nodes {
            let flow = self.node(node, dot)?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    /// Variables that are set within end with it.
    fn scoped(&mut self, nodes: &[Node], dot: &Val) -> Result<Flow, Fault> {
        let scope = self.variables.len();
        let flow = self.nodes(nodes, dot)?;
        self.variables.truncate(scope);
        Ok(flow)
    }

    fn node(&mut self, node: &Node, dot: &Val) -> Result<Flow, Fault> {
        match node {
            Node::Literal(text) => {
                self.out.push_str(text);
                self.step(0)?;
            }
            Node::Action(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    value.print(&mut self.out);
                    self.step(pipe.at)?;
                }
            }
            Node::If(pipe, nodes, otherwise) | Node::With(pipe, nodes, otherwise) => {
                let scope = self.variables.len();
                let value = self.pipe(pipe, dot)?;
                let flow = match (value.truth(), node) {
                    (true, Node::With(..)) => self.scoped(nodes, &value)?,
                    (true, _) => self.scoped(nodes, dot)?,
                    (false, _) => self.scoped(otherwise, dot)?,
                };
                self.variables.truncate(scope);
                return Ok(flow);
            }
            Node::Range(pipe, nodes, otherwise) => return self.range(pipe, nodes, otherwise, dot),
            Node::Template(at, name, pipe) => {
                self.step(*at)?;
                let value = match pipe {
                    Some(pipe) => self.pipe(pipe, dot)?,
                    None => Val::Nil,
                };
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return Err(Fault::new(*at, format!("templates call each other deeper than {MAX_DEPTH} levels")));
                }
                let body = self.body;
                let nodes = body.named.get(name).map(Vec::as_slice).unwrap_or_default();
                let outer = std::mem::replace(&mut self.variables, vec![("$".to_owned(), value.clone())]);
                self.nodes(nodes, &value)?;
                self.variables = outer;
                self.depth -= 1;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn range(&mut self, pipe: &Pipe, nodes: &[Node], otherwise: &[Node], dot: &Val) -> Result<Flow, Fault> {
        let scope = self.variables.len();
        let value = self.commands(pipe, dot)?;
        let items: Box<dyn Iterator<Item = (Val, Val)>> = match &value {
            Val::Nil => Box::new(std::iter::empty()),
            Val::Int(count) => Box::new((0..*count).map(|at| (Val::Int(at), Val::Int(at)))),
            Val::Samples(samples) => {
                Box::new(samples.iter().zip(0..).map(|(sample, at)| (Val::Int(at), Val::Sample(sample.clone()))))
            }
            Val::Labels(labels) => Box::new(labels.iter().map(|(name, value)| (Val::text(name), Val::text(value)))),
            Val::List(list) => Box::new(list.iter().zip(0..).map(|(item, at)| (Val::Int(at), item.value()))),
            Val::Map(map) => Box::new(map.iter().map(|(name, value)| (Val::text(name), value.clone()))),
            other => return Err(Fault::new(pipe.at, format!("range can't iterate over {}", other.type_name()))),
        };
        let mut empty = true;
        for (key, item) in items {
            empty = false;
            self.step(pipe.at)?;
            match pipe.variables.as_slice() {
                [name] if pipe.assigns => self.assign(name, item.clone()),
                [name] => self.variables.push((name.clone(), item.clone())),
                [at, name] if pipe.assigns => {
                    self.assign(at, key);
                    self.assign(name, item.clone());
                }
                [at, name] => {
                    self.variables.push((at.clone(), key));
                    self.variables.push((name.clone(), item.clone()));
                }
                _ => {}
            }
            let flow = self.nodes(nodes, &item)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        if empty {
            let flow = self.scoped(otherwise, dot)?;
            self.variables.truncate(scope);
            return Ok(flow);
        }
        Ok(Flow::Next)
    }

    fn assign(&mut self, name: &str, value: Val) {
        if let Some(found) = self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            found.1 = value;
        }
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Val) -> Result<Val, Fault> {
        let value = self.commands(pipe, dot)?;
        for name in &pipe.variables {
            if pipe.assigns {
                self.assign(name, value.clone());
            } else {
                self.variables.push((name.clone(), value.clone()));
            }
        }
        Ok(value)
    }

    fn commands(&mut self, pipe: &Pipe, dot: &Val) -> Result<Val, Fault> {
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(command, dot, value)?);
        }
        Ok(value.unwrap_or(Val::Nil))
    }

    /// With the value of the command before it as the last argument.
    fn command(&mut self, command: &Command, dot: &Val, before: Option<Val>) -> Result<Val, Fault> {
        let at = command.head.at;
        self.step(at)?;
        let Term::Function(function) = command.head.term else {
            return if command.args.is_empty() {
                self.operand(&command.head, dot)
            } else {
                self.method(&command.head, &command.args, dot)
            };
        };
        // `and` and `or` give back the first that decides, and look no further.
        if let stop @ ("and" | "or") = function.name {
            let mut value = Val::Nil;
            for arg in &command.args {
                value = self.operand(arg, dot)?;
                if value.truth() == (stop == "or") {
                    return Ok(value);
                }
            }
            return Ok(before.unwrap_or(value));
        }
        let mut args = Vec::with_capacity(command.args.len() + 1);
        for arg in &command.args {
            args.push(self.operand(arg, dot)?);
        }
        args.extend(before);
        self.call(function.name, &args, at)
    }

    fn call(&self, name: &str, args: &[Val], at: usize) -> Result<Val, Fault> {
        let value = functions::call(name, args, self.data, self.query)
            .map_err(|message| Fault::new(at, format!("error calling {name}: {message}")))?;
        // Some functions make a text longer, and a loop can do so again and again.
        match &value {
            Val::Text(text) if text.len() > MAX_TEXT => {
                Err(Fault::new(at, format!("error calling {name}: the text grows longer than {MAX_TEXT} bytes")))
            }
            _ => Ok(value),
        }
    }

    /// A value's last field, called with arguments.
    fn method(&mut self, head: &Operand, args: &[Operand], dot: &Val) -> Result<Val, Fault> {
        let Some((name, fields)) = head.fields.split_last() else {
            return Err(Fault::new(head.at, "BUG: arguments of no method"));
        };
        let mut value = self.operand(&Operand { fields: Vec::new(), ..head.clone() }, dot)?;
        for field in fields {
            value = self.field(&value, field).map_err(|message| Fault::new(head.at, message))?;
        }
        let mut values = Vec::with_capacity(args.len());
        for arg in args {
            values.push(self.operand(arg, dot)?);
        }
        tree::method(&value, name, &values)
            .map_err(|message| Fault::new(head.at, format!("error calling {name}: {message}")))
    }

    fn operand(&mut self, operand: &Operand, dot: &Val) -> Result<Val, Fault> {
        let mut value = match &operand.term {
            Term::Dot => dot.clone(),
            Term::Constant(constant) => constant.value(),
            Term::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                found.map(|(_, value)| value.clone()).unwrap_or(Val::Nil)
            }
            Term::Function(function) => self.call(function.name, &[], operand.at)?,
            Term::Paren(pipe) => self.pipe(pipe, dot)?,
        };
        for field in &operand.fields {
            value = self.field(&value, field).map_err(|message| Fault::new(operand.at, message))?;
        }
        Ok(value)
    }

    fn field(&self, value: &Val, name: &str) -> Result<Val, String> {
        match (value, name) {
            (Val::Struct(parts), name) => match tree::part(parts, name) {
                Some(part) => Ok(part.value()),
                None => Err(format!("can't evaluate field {name} in type {}", value.type_name())),
            },
            (Val::List(items), name) => tree::of_list(items, name)
                .ok_or_else(|| format!("can't evaluate field {name} in type {}", value.type_name())),
            (Val::Labels(labels), "SortedPairs" | "Names" | "Values") if self.dialect == Dialect::Notifications => {
                Ok(tree::of_labels(labels, name).unwrap_or(Val::Nil))
            }
            // A label that is missing is empty.
            (Val::Labels(labels), name) => Ok(Val::text(labels.get(name))),
            (Val::Map(map), name) => Ok(map.get(name).cloned().unwrap_or(Val::Nil)),
            (Val::Root, "Labels") => Ok(Val::Labels(self.data.labels.clone())),
            (Val::Root, "ExternalLabels") => Ok(Val::Labels(self.data.external_labels.clone())),
            (Val::Root, "ExternalURL") => Ok(Val::text(self.data.external_url)),
            (Val::Root, "Value") => Ok(Val::Float(self.data.value)),
            (Val::Sample(sample), "Labels") => Ok(Val::Labels(sample.0.clone())),
            (Val::Sample(sample), "Value") => Ok(Val::Float(sample.1)),
            (Val::Nil, name) => Err(format!("nil data; no entry for key {name:?}")),
            (other, name) => Err(format!("can't evaluate field {name} in type {}", other.type_name())),
        }
    }
}
