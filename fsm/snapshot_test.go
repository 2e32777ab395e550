package fsm

import (
	"bytes"
	"testing"

	"dems"
)

func snapshotBytes(t testing.TB, s *Snapshot) []byte {
	t.Helper()
	var out bytes.Buffer
	count, err := s.WriteTo(&out)
	if err != nil || count != int64(out.Len()) {
		t.Fatalf("write %d of %d bytes: %v", count, out.Len(), err)
	}
	return out.Bytes()
}

func restoredFrom(t testing.TB, m *Machine) *Machine {
	t.Helper()
	restored, err := Restore(bytes.NewReader(snapshotBytes(t, m.Snapshot())), m.Cities())
	if err != nil {
		t.Fatal(err)
	}
	return restored
}

var _ = dems.OK
