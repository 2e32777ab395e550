package citylog

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dems"
)

// TestWrittenLogIsComplete writes a log in pieces and opens it as that of a node whose state counts its records: nothing has to
// be fetched, and every record is found.
func TestWrittenLogIsComplete(t *testing.T) {
	const records = 3*checkpointRecords + 100
	s := newState(records)
	dir := filepath.Join(t.TempDir(), "logs")
	w, err := Create(dir, mtl)
	if err != nil {
		t.Fatal(err)
	}
	for first := 0; first < records; first += 1000 {
		if err := w.Append(bytes.Join(s.lines[first:min(first+1000, records)], nil)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(filepath.Join(dir, "MTL.log"))
	if err != nil || !bytes.Equal(written, bytes.Join(s.lines, nil)) {
		t.Errorf("another log was written, %v", err)
	}
	from := &source{state: s}
	r := run(t, dir, s, from)
	if err := r.Sync(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	for _, number := range []int{0, 1, checkpointRecords, 2*checkpointRecords + 5, records - 1} {
		page, err := r.Page(mtl, uint64(number), 1)
		if err != nil || !bytes.Equal(page.Records, s.lines[number]) || page.Total != records {
			t.Errorf("record %d: %d in all, %q, %v", number, page.Total, page.Records, err)
		}
	}
	if from.calls > 0 {
		t.Errorf("a peer was asked %d times", from.calls)
	}
	if log := r.find(mtl); len(log.checkpoints) < 3 {
		t.Errorf("%d checkpoints", len(log.checkpoints))
	}
}

func TestEmptyLogIsWritten(t *testing.T) {
	dir := t.TempDir()
	w, err := Create(dir, mtl)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if index, err := os.ReadFile(filepath.Join(dir, "MTL.index")); err != nil || string(index) != indexHeader+"MTL\n" {
		t.Errorf("%q, %v", index, err)
	}
}

func TestWriterRefusesWhatIsNoRecord(t *testing.T) {
	for name, text := range map[string]string{
		"a read": string(line(dems.GetBookingSchedule, 1)), "no line feed": strings.TrimSuffix(string(line(dems.BookEvent, 1)), "\n"),
		"no JSON": "x\n", "an empty line": "\n",
	} {
		w, err := Create(t.TempDir(), mtl)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Append(append(line(dems.BookEvent, 0), text...)); err == nil || !strings.Contains(err.Error(), "record 1 of MTL is malformed") {
			t.Errorf("%s: %v", name, err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestNoLogIsWrittenOver(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "MTL.log")
	if err := os.WriteFile(path, []byte("records"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(dir, mtl); err == nil {
		t.Error("no error")
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "records" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := Create(filepath.Join(path, "logs"), mtl); err == nil {
		t.Error("a folder below a file")
	}
}
