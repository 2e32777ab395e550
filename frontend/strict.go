package frontend

import (
	"bytes"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"dems"
)

// Strict reading of what clients send: one flat JSON object, and query parameters. Both know every name they accept and
// refuse whatever else there is, so that a misspelt name is never taken for one that was left out.

// maxShownBytes is how much of a client's text a detail repeats, in bytes.
const maxShownBytes = 64

// fieldShape is a field that an object may have: a JSON string or, for a number, a JSON number or, for a list, a JSON array
// of at least one string.
type fieldShape struct {
	name   string
	number bool
	list   bool
}

// malformed returns a MalformedRequest with a detail.
func malformed(format string, arguments ...any) *dems.Error {
	return &dems.Error{Code: dems.MalformedRequest, Detail: fmt.Sprintf(format, arguments...)}
}

// shown quotes text of a client for a detail.
func shown(text string) string {
	if len(text) > maxShownBytes {
		text = text[:maxShownBytes] + "…"
	}
	return strconv.Quote(text)
}

// decodeObject reads one flat JSON object (RFC 8259) that has no other fields than shape and each at most once. The
// values are stored by position in shape, which has at most len(values) fields: strings unescaped, numbers as they stand, of
// lists every string with a line feed after it; a field that is absent leaves its value "". The values share no memory with
// data.
func decodeObject(data []byte, shape []fieldShape, values []string) *dems.Error {
	d := objectDecoder{data: data}
	d.skipSpace()
	if !d.take('{') {
		return malformed("The body must be one JSON object, as in {%s}.", example(shape))
	}
	seen := uint(0)
	for first := true; ; first = false {
		d.skipSpace()
		if d.take('}') {
			if !first {
				return malformed("The body is not valid JSON: a comma stands before the closing brace.")
			}
			break
		}
		if err := d.field(shape, values, &seen); err != nil {
			return err
		}
		d.skipSpace()
		if d.take('}') {
			break
		}
		if !d.take(',') {
			return malformed("The body is not valid JSON: a comma or a closing brace is missing at byte %d.", d.at)
		}
	}
	d.skipSpace()
	if d.at != len(d.data) {
		return malformed("The body must end after its JSON object; there is more at byte %d.", d.at)
	}
	return nil
}

// example shows what a body looks like.
func example(shape []fieldShape) string {
	parts := make([]string, len(shape))
	for i, field := range shape {
		parts[i] = strconv.Quote(field.name) + `:"…"`
		if field.number {
			parts[i] = strconv.Quote(field.name) + ":1"
		}
		if field.list {
			parts[i] = strconv.Quote(field.name) + `:["…"]`
		}
	}
	return strings.Join(parts, ",")
}

// objectDecoder is a position in a JSON text.
type objectDecoder struct {
	data []byte
	at   int
}

func (d *objectDecoder) skipSpace() {
	for d.at < len(d.data) {
		switch d.data[d.at] {
		case ' ', '\t', '\n', '\r':
			d.at++
		default:
			return
		}
	}
}

func (d *objectDecoder) take(want byte) bool {
	if d.at < len(d.data) && d.data[d.at] == want {
		d.at++
		return true
	}
	return false
}

// field reads one "name":value and sets the name's bit in seen.
func (d *objectDecoder) field(shape []fieldShape, values []string, seen *uint) *dems.Error {
	if !d.take('"') {
		return malformed("The body is not valid JSON: the name of a field must stand at byte %d.", d.at)
	}
	raw, problem := d.text()
	if problem != "" {
		return malformed("The name of a field %s.", problem)
	}
	position := -1
	for i := range shape {
		if shape[i].name == string(raw) {
			position = i
		}
	}
	if position < 0 {
		return malformed("The body has an unknown field %s.", shown(string(raw)))
	}
	field := shape[position]
	if *seen&(1<<position) != 0 {
		return malformed("The field %s stands twice.", field.name)
	}
	*seen |= 1 << position
	d.skipSpace()
	if !d.take(':') {
		return malformed("The body is not valid JSON: a colon is missing after the field %s.", field.name)
	}
	d.skipSpace()
	if problem = d.value(field, &values[position]); problem != "" {
		return malformed("The field %s %s.", field.name, problem)
	}
	return nil
}

// value reads the value of a field; the problem is "" or the end of a sentence.
func (d *objectDecoder) value(field fieldShape, value *string) (problem string) {
	if d.at == len(d.data) {
		return "has no value: the body ends early"
	}
	switch first := d.data[d.at]; {
	case first == '"' && !field.number && !field.list:
		d.at++
		raw, problem := d.text()
		*value = string(raw)
		return problem
	case (first == '-' || first >= '0' && first <= '9') && field.number:
		raw, ok := d.number()
		if !ok {
			return "is not a valid JSON number"
		}
		*value = string(raw)
		return ""
	case first == '[' && field.list:
		d.at++
		return d.list(value)
	}
	switch {
	case field.number:
		return "must be a JSON number"
	case field.list:
		return "must be a JSON array of strings"
	}
	return "must be a JSON string"
}

// list reads the rest of a JSON array of strings after its opening bracket. Strings with control characters are refused:
// names have none, and a line feed stands between the strings of a value.
func (d *objectDecoder) list(value *string) (problem string) {
	var texts []byte
	for {
		d.skipSpace()
		if !d.take('"') {
			return "must be a JSON array of at least one string, and of nothing but strings"
		}
		text, problem := d.text()
		if problem != "" {
			return problem
		}
		if bytes.ContainsFunc(text, unicode.IsControl) {
			return "holds a string with a control character"
		}
		texts = append(append(texts, text...), '\n')
		d.skipSpace()
		if d.take(']') {
			*value = string(texts)
			return ""
		}
		if !d.take(',') {
			return "is not a valid JSON array: a comma or a closing bracket is missing"
		}
	}
}

// number reads a JSON number.
func (d *objectDecoder) number() ([]byte, bool) {
	start := d.at
	d.take('-')
	if !d.take('0') && !d.digits() {
		return nil, false
	}
	if d.take('.') && !d.digits() {
		return nil, false
	}
	if d.take('e') || d.take('E') {
		if !d.take('+') {
			d.take('-')
		}
		if !d.digits() {
			return nil, false
		}
	}
	return d.data[start:d.at], true
}

func (d *objectDecoder) digits() bool {
	start := d.at
	for d.at < len(d.data) && d.data[d.at] >= '0' && d.data[d.at] <= '9' {
		d.at++
	}
	return d.at > start
}

// text reads the rest of a JSON string after its opening quote. The result may be part of the data.
func (d *objectDecoder) text() (text []byte, problem string) {
	start := d.at
	for ; d.at < len(d.data); d.at++ {
		switch c := d.data[d.at]; {
		case c == '"':
			d.at++
			return d.data[start : d.at-1], ""
		case c < ' ':
			return nil, "holds a control character that is not escaped"
		case c == '\\' || c >= utf8.RuneSelf:
			return d.unusualText(bytes.Clone(d.data[start:d.at]))
		}
	}
	return nil, "does not end: a quote is missing"
}

// unusualText goes on where a string holds an escape or is not ASCII; text is what was read of it.
func (d *objectDecoder) unusualText(text []byte) ([]byte, string) {
	for d.at < len(d.data) {
		switch c := d.data[d.at]; {
		case c == '"':
			d.at++
			return text, ""
		case c < ' ':
			return nil, "holds a control character that is not escaped"
		case c == '\\':
			d.at++
			letter, ok := d.escape()
			if !ok {
				return nil, "holds an escape that is not valid"
			}
			text = utf8.AppendRune(text, letter)
		default:
			letter, size := utf8.DecodeRune(d.data[d.at:])
			if letter == utf8.RuneError && size <= 1 {
				return nil, "is not valid UTF-8"
			}
			text = append(text, d.data[d.at:d.at+size]...)
			d.at += size
		}
	}
	return nil, "does not end: a quote is missing"
}

// escape reads what follows a backslash. Half of a surrogate pair is not valid: no text means it.
func (d *objectDecoder) escape() (rune, bool) {
	if d.at == len(d.data) {
		return 0, false
	}
	c := d.data[d.at]
	d.at++
	if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
		return rune("\"\\/\b\f\n\r\t"[i]), true
	}
	if c != 'u' {
		return 0, false
	}
	first, ok := d.hexadecimal()
	if !ok || !utf16.IsSurrogate(first) {
		return first, ok
	}
	if !d.take('\\') || !d.take('u') {
		return 0, false
	}
	second, ok := d.hexadecimal()
	letter := utf16.DecodeRune(first, second)
	return letter, ok && letter != utf8.RuneError
}

// hexadecimal reads the four digits of a \u escape.
func (d *objectDecoder) hexadecimal() (rune, bool) {
	if len(d.data)-d.at < 4 {
		return 0, false
	}
	value := rune(0)
	for _, c := range d.data[d.at : d.at+4] {
		switch {
		case c >= '0' && c <= '9':
			value = value<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			value = value<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			value = value<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	d.at += 4
	return value, true
}

// decodeQuery reads the query of a URL, which has no other parameters than names and each at most once. The values are
// stored by position in names; given has the bit of each parameter that is there, be it empty.
func decodeQuery(query string, names []string, values []string) (given uint, err *dems.Error) {
	if query == "" {
		return 0, nil
	}
	for pair := range strings.SplitSeq(query, "&") {
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, nameError := url.QueryUnescape(rawName)
		value, valueError := url.QueryUnescape(rawValue)
		if nameError != nil || valueError != nil {
			return 0, malformed("The query is not percent-encoded as it should be at %s.", shown(pair))
		}
		position := -1
		for i := range names {
			if names[i] == name {
				position = i
			}
		}
		if position < 0 {
			return 0, malformed("There is an unknown query parameter %s.", shown(name))
		}
		if given&(1<<position) != 0 {
			return 0, malformed("The query parameter %s stands twice.", name)
		}
		given |= 1 << position
		values[position] = value
	}
	return given, nil
}
