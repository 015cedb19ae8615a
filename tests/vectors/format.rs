//! JSON as the vector files are written: short enough to read, in lines short enough for a diff.

use serde_json::Value;

const WIDTH: usize = 100;

pub fn pretty(value: &Value) -> String {
    let mut out = String::new();
    write(value, 0, 0, &mut out);
    out + "\n"
}

/// `taken` columns of the line are used already.
fn write(value: &Value, depth: usize, taken: usize, out: &mut String) {
    let line = on_one_line(value);
    let (open, close, members): (_, _, Vec<(String, &Value)>) = match value {
        Value::Object(map) => (
            '{',
            '}',
            map.iter().map(|(key, value)| (format!("{}: ", quoted(key)), value)).collect(),
        ),
        Value::Array(list) => ('[', ']', list.iter().map(|value| (String::new(), value)).collect()),
        _ => return out.push_str(&line),
    };
    if taken + line.len() <= WIDTH {
        return out.push_str(&line);
    }
    let indent = " ".repeat(depth + 1);
    // Numbers and flags fill the lines, everything else has a line of its own.
    let fills = |value: &Value| !value.is_object() && !value.is_array() && !value.is_string();
    out.push(open);
    let mut column = WIDTH;
    for (index, (key, value)) in members.iter().enumerate() {
        let comma = usize::from(index + 1 < members.len());
        let length = key.len() + on_one_line(value).len() + comma;
        if index > 0 && fills(value) && column + 1 + length <= WIDTH {
            out.push(' ');
            column += 1 + length;
        } else {
            out.push('\n');
            out.push_str(&indent);
            column = indent.len() + length;
        }
        out.push_str(key);
        write(value, depth + 1, indent.len() + key.len() + comma, out);
        if comma == 1 {
            out.push(',');
        }
        if !fills(value) {
            column = WIDTH;
        }
    }
    out.push('\n');
    out.push_str(&" ".repeat(depth));
    out.push(close);
}

fn on_one_line(value: &Value) -> String {
    let join = |members: Vec<String>| members.join(", ");
    match value {
        Value::Object(map) => {
            let member = |(key, value): (&String, &Value)| {
                format!("{}: {}", quoted(key), on_one_line(value))
            };
            format!("{{{}}}", join(map.iter().map(member).collect()))
        }
        Value::Array(list) => format!("[{}]", join(list.iter().map(on_one_line).collect())),
        other => other.to_string(),
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
