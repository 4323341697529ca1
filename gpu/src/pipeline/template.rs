//! The few lines of text that WGSL has no words for: parts that several kernels share, and variables in numbers that a
//! constant says.
//!
//! ```text
//! #part NAME         begins a part of a file; it ends with the next or the file
//! #insert NAME       the part of that name
//! #each v COUNT      the lines up to the matching `#end` once for each v = 0 … COUNT − 1; COUNT a number or constant
//! {v} {3} {4u+v}     sums of numbers, variables, and multiples of variables become numbers
//! ```

/// The text before the first part of `file`, if any, and its parts by name.
pub(super) struct Parts<'a>(Vec<(&'a str, Vec<&'a str>)>);

impl<'a> Parts<'a> {
    /// The parts of all `files`.
    pub(super) fn of(files: &[&'a str]) -> Self {
        let mut parts = Vec::new();
        for file in files {
            parts.push(("", Vec::new()));
            for line in file.lines() {
                match line.trim_start().strip_prefix("#part ") {
                    Some(name) => parts.push((name.trim(), Vec::new())),
                    None => parts.iter_mut().next_back().into_iter().for_each(|(_, lines)| lines.push(line)),
                }
            }
        }
        Self(parts)
    }

    /// `text` with its parts inserted and its loops unrolled. What is not there stays as it was written, which no WGSL
    /// compiler accepts.
    pub(super) fn expand(&self, text: &str, constants: &[(&str, u32)]) -> String {
        let mut lines = Vec::new();
        for line in text.lines() {
            let part = line.trim_start().strip_prefix("#insert ").and_then(|name| {
                let found = self.0.iter().find(|(known, _)| *known == name.trim());
                found.map(|(_, lines)| lines)
            });
            match part {
                Some(part) => lines.extend_from_slice(part),
                None => lines.push(line),
            }
        }
        let mut out = String::new();
        unroll(&lines, constants, &mut Vec::new(), &mut out);
        out
    }
}

fn unroll<'a>(
    lines: &[&'a str],
    constants: &[(&str, u32)],
    variables: &mut Vec<(&'a str, u32)>,
    out: &mut String,
) {
    let mut rest = lines;
    while let Some((&line, after)) = rest.split_first() {
        rest = after;
        let Some((variable, count)) =
            line.trim_start().strip_prefix("#each ").and_then(|each| each.trim().split_once(' '))
        else {
            substitute(line, variables, out);
            out.push('\n');
            continue;
        };
        let mut depth = 1_usize;
        let end = after.iter().position(|line| {
            let line = line.trim_start();
            if line.starts_with("#each ") {
                depth += 1;
            } else if line == "#end" {
                depth -= 1;
            }
            depth == 0
        });
        let (body, next) = after.split_at(end.unwrap_or(after.len()));
        rest = next.get(1..).unwrap_or_default();
        let known = constants.iter().find(|(name, _)| *name == count).map(|&(_, value)| value);
        for value in 0..known.or_else(|| count.parse().ok()).unwrap_or(0) {
            variables.push((variable, value));
            unroll(body, constants, variables, out);
            variables.pop();
        }
    }
}

/// `line` with its sums in braces as numbers.
fn substitute(line: &str, variables: &[(&str, u32)], out: &mut String) {
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        match after.split_once('}').and_then(|(sum, after)| Some((value(sum, variables)?, after))) {
            Some((value, after)) => {
                out.push_str(&value.to_string());
                rest = after;
            }
            None => {
                out.push('{');
                rest = after;
            }
        }
    }
    out.push_str(rest);
}

fn value(sum: &str, variables: &[(&str, u32)]) -> Option<u32> {
    sum.split('+').try_fold(0_u32, |total, term| {
        let name = term.trim_start_matches(|c: char| c.is_ascii_digit());
        let factor = term.strip_suffix(name)?;
        let factor: Option<u32> = if factor.is_empty() { None } else { Some(factor.parse().ok()?) };
        let variable = if name.is_empty() {
            None
        } else {
            Some(variables.iter().rev().find(|(known, _)| *known == name)?.1)
        };
        let term = match (factor, variable) {
            (None, None) => return None,
            (Some(value), None) | (None, Some(value)) => value,
            (Some(factor), Some(value)) => factor.checked_mul(value)?,
        };
        total.checked_add(term)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_inserted_and_loops_unrolled() {
        let parts = Parts::of(&["ignored\n#part one\nlet a{t};\n#part two\nb", "#part three\nc"]);
        let text =
            "#each t TWO\n#insert one\n#each s 2\n  x{2t+s+1}[{t}] {\n#end\n#end\n#insert three\n{ {u} {}";
        let expected = "let a0;\n  x1[0] {\n  x2[0] {\nlet a1;\n  x3[1] {\n  x4[1] {\nc\n{ {u} {}\n";
        assert_eq!(parts.expand(text, &[("TWO", 2)]), expected);
        // What is unknown is not hidden.
        assert_eq!(parts.expand("#insert four\nz", &[]), "#insert four\nz\n");
        assert_eq!(parts.expand("#each t N\nz\n", &[]), "");
    }
}
