package citylog

import (
	"bytes"
	"encoding/json"
	"strconv"

	"dems"
)

// maxLineBytes bounds a line when files and pages are read. Records are a few hundred bytes long.
const maxLineBytes = 64 << 10

var (
	operationMark = []byte(`,"op":"`)
	sequenceMark  = []byte(`,"seq":`)
)

// Ordered tells whether a line is the record of an ordered operation and not of a read.
func Ordered(line []byte) bool {
	_, rest, found := bytes.Cut(line, operationMark)
	name, _, whole := bytes.Cut(rest, []byte{'"'})
	if !found || !whole {
		return false
	}
	op, known := dems.ParseOp(string(name))
	return known && op.Mutates()
}

// valid tells whether a line is whole: a JSON object, an operation, a line feed.
func valid(line []byte) bool {
	end := len(line) - 1
	if end < 2 || end >= maxLineBytes || line[end] != '\n' || line[0] != '{' || line[end-1] != '}' {
		return false
	}
	for _, c := range line[:end] {
		if c < ' ' || c > '~' { // json.Valid lets broken UTF-8 pass; records are plain ASCII
			return false
		}
	}
	return bytes.Contains(line, operationMark) && json.Valid(line[:end])
}

// sequence returns the log index that a record names, 0 if it names none.
func sequence(line []byte) uint64 {
	_, rest, _ := bytes.Cut(line, sequenceMark)
	digits, _, _ := bytes.Cut(rest, []byte{','})
	index, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil {
		return 0
	}
	return index
}
