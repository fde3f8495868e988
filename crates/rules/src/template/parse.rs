//! Tokens as a tree.

use std::collections::BTreeMap;

use super::functions::{self, Function};
use super::lexer::{Placed, Token, tokens};
use super::value::Val;
use super::{Dialect, Fault, MAX_DEPTH};

/// A whole template.
#[derive(Debug, Clone, Default)]
pub(super) struct Body {
    pub(super) nodes: Vec<Node>,
    /// Of `define` and `block`.
    pub(super) named: BTreeMap<String, Vec<Node>>,
    /// Texts, if it queries anything.
    pub(super) queries: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    Literal(String),
    /// Printed, unless it sets a variable.
    Action(Pipe),
    If(Pipe, Vec<Node>, Vec<Node>),
    With(Pipe, Vec<Node>, Vec<Node>),
    Range(Pipe, Vec<Node>, Vec<Node>),
    Template(usize, String, Option<Pipe>),
    Break,
    Continue,
}

/// `$x := a | b`
#[derive(Debug, Clone)]
pub(super) struct Pipe {
    pub(super) at: usize,
    pub(super) variables: Vec<String>,
    /// `=` and not `:=`.
    pub(super) assigns: bool,
    pub(super) commands: Vec<Command>,
}

/// A function with its arguments, or a value alone.
#[derive(Debug, Clone)]
pub(super) struct Command {
    pub(super) head: Operand,
    pub(super) args: Vec<Operand>,
}

#[derive(Debug, Clone)]
pub(super) struct Operand {
    pub(super) at: usize,
    pub(super) term: Term,
    /// `.a.b` behind it.
    pub(super) fields: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) enum Term {
    Dot,
    Constant(Constant),
    Variable(String),
    Function(&'static Function),
    Paren(Box<Pipe>),
}

/// As a [`Val`], but one that another thread may have.
#[derive(Debug, Clone)]
pub(super) enum Constant {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

impl Constant {
    pub(super) fn value(&self) -> Val {
        match self {
            Self::Nil => Val::Nil,
            Self::Bool(value) => Val::Bool(*value),
            Self::Int(value) => Val::Int(*value),
            Self::Float(value) => Val::Float(*value),
            Self::Text(text) => Val::text(text),
        }
    }
}

/// Words that are no functions.
const KEYWORDS: &[&str] = &["if", "else", "end", "range", "with", "define", "block", "template", "break", "continue"];

/// What variables there are at the top.
pub(super) const VARIABLES: [&str; 5] = ["$", "$labels", "$externalLabels", "$externalURL", "$value"];

pub(super) fn parse(text: &str, dialect: Dialect) -> Result<Body, Fault> {
    let known = match dialect {
        Dialect::Rules => VARIABLES.as_slice(),
        Dialect::Notifications => &["$"],
    };
    let mut parser = Parser {
        dialect,
        tokens: tokens(text)?,
        at: 0,
        end: text.len(),
        variables: known.iter().map(|name| (*name).to_owned()).collect(),
        depth: 0,
        loops: 0,
        body: Body::default(),
        texts: Vec::new(),
        queries: false,
        called: Vec::new(),
    };
    let (nodes, end) = parser.list()?;
    if let Some((at, word)) = end {
        return Err(Fault::new(at, format!("unexpected {{{{{word}}}}}")));
    }
    if dialect == Dialect::Notifications && parser.called.iter().any(|(_, name)| SHIPPED_NAMES.contains(&name.as_str()))
    {
        for (name, nodes) in parse(SHIPPED, dialect)?.named {
            parser.body.named.entry(name).or_insert(nodes);
        }
    }
    if let Some((at, name)) = parser.called.iter().find(|(_, name)| !parser.body.named.contains_key(name)) {
        return Err(Fault::new(*at, format!("template {name:?} not defined")));
    }
    let queries = if parser.queries { parser.texts } else { Vec::new() };
    Ok(Body { nodes, queries, ..parser.body })
}

/// The templates of Alertmanager that others call by their names.
const SHIPPED: &str = r#"
{{- define "__subject" }}[{{ .Status | toUpper }}{{ if eq .Status "firing" }}:{{ .Alerts.Firing | len }}{{ end -}}
] {{ .GroupLabels.SortedPairs.Values | join " " }}{{ $rest := (.CommonLabels.Remove .GroupLabels.Names).Values -}}
{{ if $rest }} ({{ join " " $rest }}){{ end }}{{ end -}}
{{ define "__alertmanager" }}utilizer{{ end -}}
{{ define "__alertmanagerURL" }}{{ .ExternalURL }}{{ end -}}
{{ define "__text_alert_list" }}{{ range . }}Labels:
{{ range .Labels.SortedPairs }} - {{ .Name }} = {{ .Value }}
{{ end }}Annotations:
{{ range .Annotations.SortedPairs }} - {{ .Name }} = {{ .Value }}
{{ end }}{{ if .GeneratorURL }}Source: {{ .GeneratorURL }}
{{ end }}{{ end }}{{ end }}"#;

/// Their names.
const SHIPPED_NAMES: &[&str] = &["__subject", "__alertmanager", "__alertmanagerURL", "__text_alert_list"];

struct Parser {
    dialect: Dialect,
    tokens: Vec<Placed>,
    at: usize,
    end: usize,
    variables: Vec<String>,
    depth: usize,
    loops: usize,
    body: Body,
    texts: Vec<String>,
    queries: bool,
    called: Vec<(usize, String)>,
}

/// Nodes, and the word that ended them with its place.
type List = (Vec<Node>, Option<(usize, String)>);

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|placed| &placed.token)
    }

    /// Where the next token stands.
    fn place(&self) -> usize {
        self.tokens.get(self.at).map_or(self.end, |placed| placed.at)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).map(|placed| placed.token.clone());
        self.at += 1;
        token
    }

    fn take(&mut self, sign: &'static str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(found)) if *found == sign);
        self.at += usize::from(found);
        found
    }

    fn unexpected<T>(&self, context: &str) -> Result<T, Fault> {
        let what = match self.peek() {
            None => "end of the template".to_owned(),
            Some(Token::Literal(_) | Token::Left) => "text".to_owned(),
            Some(Token::Right) => "}}".to_owned(),
            Some(Token::Dot) => ".".to_owned(),
            Some(Token::Field(name)) => format!(".{name}"),
            Some(Token::Variable(name) | Token::Word(name)) => name.clone(),
            Some(Token::Text(text)) => format!("{text:?}"),
            Some(Token::Int(number)) => number.to_string(),
            Some(Token::Float(number)) => number.to_string(),
            Some(Token::Sign(sign)) => (*sign).to_owned(),
        };
        Err(Fault::new(self.place(), format!("unexpected {what} in {context}")))
    }

    fn right(&mut self, context: &str) -> Result<(), Fault> {
        if !matches!(self.peek(), Some(Token::Right)) {
            return self.unexpected(context);
        }
        self.at += 1;
        Ok(())
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Fault::new(self.place(), format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let result = inner(self);
        self.depth -= 1;
        result
    }

    /// Nodes up to `else` or `end`, which is taken without what stands behind it, or to the end of the text.
    fn list(&mut self) -> Result<List, Fault> {
        let mut nodes = Vec::new();
        while let Some(token) = self.next() {
            let start = self.tokens.get(self.at - 1).map_or(0, |placed| placed.at);
            match token {
                Token::Literal(text) => nodes.push(Node::Literal(text)),
                Token::Left => {
                    let word = match self.peek() {
                        Some(Token::Word(word)) if KEYWORDS.contains(&word.as_str()) => word.clone(),
                        _ => {
                            let pipe = self.pipe("command", 1)?;
                            self.right("command")?;
                            nodes.push(Node::Action(pipe));
                            continue;
                        }
                    };
                    self.at += 1;
                    match word.as_str() {
                        "else" | "end" => return Ok((nodes, Some((start, word)))),
                        _ => nodes.extend(self.deeper(|parser| parser.control(&word, start))?),
                    }
                }
                _ => return self.unexpected("template"),
            }
        }
        Ok((nodes, None))
    }

    fn control(&mut self, word: &str, start: usize) -> Result<Option<Node>, Fault> {
        match word {
            "if" | "with" | "range" => self.branch(word, start).map(Some),
            "break" | "continue" => {
                if self.loops == 0 {
                    return Err(Fault::new(start, format!("{{{{{word}}}}} outside {{{{range}}}}")));
                }
                self.right(word)?;
                Ok(Some(if word == "break" { Node::Break } else { Node::Continue }))
            }
            "template" => {
                let name = self.name(word)?;
                let pipe = if matches!(self.peek(), Some(Token::Right)) { None } else { Some(self.pipe(word, 0)?) };
                self.right(word)?;
                self.called.push((start, name.clone()));
                Ok(Some(Node::Template(start, name, pipe)))
            }
            _ => {
                // `define` or `block`.
                let name = self.name(word)?;
                let pipe = if word == "block" { Some(self.pipe(word, 0)?) } else { None };
                self.right(word)?;
                let outer = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
                let loops = std::mem::take(&mut self.loops);
                let (nodes, end) = self.list()?;
                self.loops = loops;
                self.variables = outer;
                if end.is_none_or(|(_, word)| word != "end") {
                    return Err(Fault::new(start, format!("{{{{{word}}}}} without {{{{end}}}}")));
                }
                self.right("end")?;
                if self.body.named.insert(name.clone(), nodes).is_some() {
                    return Err(Fault::new(start, format!("template {name:?} is defined twice")));
                }
                Ok(pipe.map(|pipe| Node::Template(start, name, Some(pipe))))
            }
        }
    }

    fn name(&mut self, context: &str) -> Result<String, Fault> {
        match self.peek() {
            Some(Token::Text(name)) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => self.unexpected(context),
        }
    }

    /// What follows `if`, `with` or `range`, up to its `end`.
    fn branch(&mut self, word: &str, start: usize) -> Result<Node, Fault> {
        let scope = self.variables.len();
        let pipe = self.pipe(word, if word == "range" { 2 } else { 1 })?;
        self.right(word)?;
        self.loops += usize::from(word == "range");
        let (nodes, end) = self.list()?;
        self.loops -= usize::from(word == "range");
        let mut otherwise = Vec::new();
        let unclosed = || Fault::new(start, format!("{{{{{word}}}}} without {{{{end}}}}"));
        let (_, ended) = end.ok_or_else(unclosed)?;
        if ended == "else" {
            // `else if` and `else with` are a branch of their own, which has the same `end`.
            if let Some(Token::Word(next)) = self.peek()
                && word != "range"
                && next == word
            {
                let place = self.place();
                self.at += 1;
                otherwise.push(self.deeper(|parser| parser.branch(word, place))?);
                self.variables.truncate(scope);
                return Ok(Self::branched(word, pipe, nodes, otherwise));
            }
            self.right("else")?;
            let (nodes, end) = self.list()?;
            otherwise = nodes;
            let (at, ended) = end.ok_or_else(unclosed)?;
            if ended != "end" {
                return Err(Fault::new(at, format!("expected end; found {{{{{ended}}}}}")));
            }
        }
        self.right("end")?;
        self.variables.truncate(scope);
        Ok(Self::branched(word, pipe, nodes, otherwise))
    }

    fn branched(word: &str, pipe: Pipe, nodes: Vec<Node>, otherwise: Vec<Node>) -> Node {
        match word {
            "if" => Node::If(pipe, nodes, otherwise),
            "with" => Node::With(pipe, nodes, otherwise),
            _ => Node::Range(pipe, nodes, otherwise),
        }
    }

    /// With up to so many variables set.
    fn pipe(&mut self, context: &str, most: usize) -> Result<Pipe, Fault> {
        let start = self.place();
        let (variables, assigns) = self.variables(context, most)?;
        let mut commands = Vec::new();
        loop {
            let command = self.command(context)?;
            if !commands.is_empty() && !matches!(command.head.term, Term::Function(_)) {
                return Err(Fault::new(command.head.at, "non executable command in pipeline: no function behind |"));
            }
            if let (Term::Function(function), after) = (&command.head.term, usize::from(!commands.is_empty())) {
                let count = command.args.len() + after;
                if count < function.least || count > function.most {
                    let message =
                        format!("wrong number of args for {}: want {}, got {count}", function.name, function.wants());
                    return Err(Fault::new(command.head.at, message));
                }
            }
            commands.push(command);
            if !self.take("|") {
                break;
            }
        }
        // Only now: a variable is not known within what it is set to.
        if !assigns {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Pipe { at: start, variables, assigns, commands })
    }

    /// `$x :=`, `$x =` or `$i, $x :=`.
    fn variables(&mut self, context: &str, most: usize) -> Result<(Vec<String>, bool), Fault> {
        let start = self.at;
        let mut names = Vec::new();
        while let Some(Token::Variable(name)) = self.peek() {
            names.push(name.clone());
            self.at += 1;
            if !self.take(",") {
                break;
            }
        }
        let assigns = self.take("=");
        if names.is_empty() || (!assigns && !self.take(":=")) {
            self.at = start;
            return Ok((Vec::new(), false));
        }
        let at = self.tokens.get(start).map_or(0, |placed| placed.at);
        if names.len() > most {
            return Err(Fault::new(at, format!("too many declarations in {context}")));
        }
        if assigns && let Some(name) = names.iter().find(|name| !self.variables.contains(name)) {
            return Err(Fault::new(at, format!("undefined variable {name:?}")));
        }
        Ok((names, assigns))
    }

    fn command(&mut self, context: &str) -> Result<Command, Fault> {
        let head = self.operand(context)?;
        let mut args = Vec::new();
        while !matches!(self.peek(), None | Some(Token::Right | Token::Sign(")" | "|"))) {
            args.push(self.operand(context)?);
        }
        // A method of a notification's values, such as `.StartsAt.Format "15:04"`.
        let method = self.dialect == Dialect::Notifications && !head.fields.is_empty();
        let takes = method || (matches!(head.term, Term::Function(_)) && head.fields.is_empty());
        if let (Some(first), false) = (args.first(), takes) {
            return Err(Fault::new(first.at, "can't give argument to non-function"));
        }
        // A function among the arguments is called with none.
        for arg in &args {
            if let Term::Function(function) = arg.term
                && function.least > 0
            {
                let message = format!("wrong number of args for {}: want {}, got 0", function.name, function.wants());
                return Err(Fault::new(arg.at, message));
            }
        }
        Ok(Command { head, args })
    }

    fn operand(&mut self, context: &str) -> Result<Operand, Fault> {
        let at = self.place();
        if let Some(placed) = self.tokens.get(self.at)
            && placed.glued
            && !matches!(placed.token, Token::Sign("(" | ")" | "|") | Token::Right)
            && !matches!(self.tokens.get(self.at.wrapping_sub(1)).map(|placed| &placed.token), Some(Token::Sign(_)))
        {
            return self.unexpected(context);
        }
        let mut fields = Vec::new();
        let term = match self.peek().cloned() {
            Some(Token::Dot) => Term::Dot,
            Some(Token::Field(name)) => {
                fields.push(name);
                Term::Dot
            }
            Some(Token::Variable(name)) => {
                if !self.variables.contains(&name) {
                    return Err(Fault::new(at, format!("undefined variable {name:?}")));
                }
                Term::Variable(name)
            }
            Some(Token::Word(word)) => match word.as_str() {
                "true" => Term::Constant(Constant::Bool(true)),
                "false" => Term::Constant(Constant::Bool(false)),
                "nil" => Term::Constant(Constant::Nil),
                word if KEYWORDS.contains(&word) => return self.unexpected(context),
                word => {
                    let function = functions::find(word, self.dialect).map_err(|message| Fault::new(at, message))?;
                    self.queries |= function.name == "query";
                    Term::Function(function)
                }
            },
            Some(Token::Text(text)) => {
                self.texts.push(text.clone());
                Term::Constant(Constant::Text(text))
            }
            Some(Token::Int(number)) => Term::Constant(Constant::Int(number)),
            Some(Token::Float(number)) => Term::Constant(Constant::Float(number)),
            Some(Token::Sign("(")) => {
                self.at += 1;
                let pipe = self.deeper(|parser| parser.pipe("parenthesized pipeline", 0))?;
                if !matches!(self.peek(), Some(Token::Sign(")"))) {
                    return self.unexpected("parenthesized pipeline; missing )");
                }
                Term::Paren(Box::new(pipe))
            }
            None | Some(Token::Right | Token::Left | Token::Literal(_)) => {
                return Err(Fault::new(at, format!("missing value for {context}")));
            }
            Some(Token::Sign(_)) => return self.unexpected(context),
        };
        self.at += 1;
        while let Some(Placed { token: Token::Field(name), glued: true, at }) = self.tokens.get(self.at) {
            if matches!(term, Term::Constant(_) | Term::Function(_)) {
                return Err(Fault::new(*at, format!("unexpected .{name} after term")));
            }
            fields.push(name.clone());
            self.at += 1;
        }
        if matches!(term, Term::Dot)
            && fields.is_empty()
            && self
                .tokens
                .get(self.at)
                .is_some_and(|next| next.glued && matches!(next.token, Token::Dot | Token::Field(_)))
        {
            return self.unexpected(context);
        }
        Ok(Operand { at, term, fields })
    }
}
