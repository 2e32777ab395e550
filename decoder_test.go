package dems_test

import (
	"strings"
	"testing"

	"dems"
)

func TestDecoder(t *testing.T) {
	d := dems.NewDecoder([]byte("\x05\x02ab\x07rest"))
	if d.Byte() != 5 || d.Text(2) != "ab" || d.Count(7) != 7 || d.Rest() != 4 || string(d.Bytes(4)) != "rest" || d.Finish() != nil {
		t.Error("reading in order does not give what was written")
	}
	d = dems.NewDecoder([]byte{1})
	if d.Bytes(-1) != nil || d.Byte() != 0 || d.Uvarint() != 0 || d.Event() != (dems.EventKey{}) || d.Rest() != 0 {
		t.Error("reading after an error does not give zeros")
	}
	if err := d.Finish(); err == nil || !strings.Contains(err.Error(), "truncated") || d.Err() != err {
		t.Errorf("the first error is lost: %v, %v", err, d.Err())
	}
}
