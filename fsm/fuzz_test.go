package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"testing"

	"dems"
)

// FuzzRestore looks for input that makes Restore or SurveySnapshot panic, or that Restore accepts without having to: what is accepted has the
// digest of its records, holds the invariants, and is written as the same state again. The input is tried as it is, and
// with its checksums made right.
func FuzzRestore(f *testing.F) {
	whole := snapshotBytes(f, smallMachine(f).Snapshot())
	f.Add(whole)
	f.Add(snapshotBytes(f, New(dems.DefaultCities()).Snapshot()))
	f.Add(whole[:len(whole)/2])
	f.Add([]byte(snapshotMagic))
	for _, at := range []int{20, 60, 100, 200, 300, 500, len(whole) - 40} {
		damaged := slices.Clone(whole)
		damaged[at]++
		f.Add(damaged)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for range 2 {
			m, err := Restore(bytes.NewReader(data), dems.DefaultCities())
			survey, surveyError := SurveySnapshot(bytes.NewReader(data), dems.DefaultCities())
			switch {
			case surveyError != nil && !errors.Is(surveyError, ErrSnapshot):
				t.Fatalf("an error of another kind: %v", surveyError)
			case err == nil && surveyError == nil && survey.Origin != m.Origin():
				t.Fatalf("surveyed as %v, restored as %v", survey.Origin, m.Origin())
			case err != nil && !errors.Is(err, ErrSnapshot):
				t.Fatalf("an error of another kind: %v", err)
			case err == nil && m.Recompute() != m.Digest():
				t.Fatal("the digest is not that of the records")
			case err == nil:
				if again := restoredFrom(t, m); again.Digest() != m.Digest() {
					t.Fatal("written and restored, it is another state")
				}
			}
			data = slices.Clone(data)
			if !repair(data) {
				return
			}
		}
	})
}

// FuzzApply looks for entries that make Apply panic or break the state. The entry is tried as it is, and its payload as
// the commands of a batch with a right checksum.
func FuzzApply(f *testing.F) {
	entry := func(commands ...dems.Command) []byte {
		return dems.AppendEntry(nil, &dems.Entry{Kind: dems.BatchEntry, Batch: dems.Batch{
			Session: testSession, Number: 5, Commands: commands,
		}})
	}
	f.Add(entry(add("TORM0001", "seminar", "TORM110519", 3)))
	f.Add(entry(withKey(remove("TORM0001", "seminar", "TORM100519", dems.Rebook), "k1"), book("TORC0001", "seminar", "TORA100519")))
	f.Add(entry(cancel("MTLC0001", "conference", "TORM100519"), dems.Command{Op: dems.SwapEvent, By: user("TORM0001"),
		Customer: user("MTLC0001"), Event: key("seminar", "TORA100519"), OldEvent: key("seminar", "TORM100519")}))
	f.Add(entry(dems.Command{Op: dems.ListEventAvailability, By: user("TORM0001"), Event: dems.EventKey{Type: dems.Seminar}}))
	registration := node("n9", 4)
	f.Add(dems.AppendEntry(nil, &dems.Entry{Kind: dems.RegisterNodeEntry, Registration: registration}))
	registration.Session = 1234
	f.Add(dems.AppendEntry(nil, &dems.Entry{Kind: dems.RegisterFrontEndEntry, Registration: registration}))
	verdict := dems.Verdict{Node: "n3", Incarnation: 1, By: "n4", ByIncarnation: 1, Index: 9, Time: testTime}
	f.Add(dems.AppendEntry(nil, &dems.Entry{Kind: dems.VerdictEntry, Verdict: verdict}))
	replacement := dems.Replacement{Node: "n2", Incarnation: 4, By: "n1", Cause: "It does not come back.", Automatic: true, Time: testTime}
	f.Add(dems.AppendEntry(nil, &dems.Entry{Kind: dems.ReplacementEntry, Replacement: replacement}))
	f.Add(dems.AppendEntry(nil, &dems.Entry{Kind: dems.IncidentEntry, Incident: dems.Incident{
		Kind: dems.AccusationIncident, Time: testTime, Node: "n3", Incarnation: 1, By: "fe1", Index: 9, Expected: "this", Answered: "that",
	}}))
	f.Add(dems.AppendEntry(nil, &dems.Entry{Kind: dems.RestoreEntry, Origin: smallMachine(f).Origin()}))
	f.Add(dems.AppendEntry(nil, &dems.Entry{Kind: dems.RestoreEntry, Origin: dems.Origin{Index: 1}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := smallMachine(t)
		index := m.Index()
		before := m.Digest()
		for _, entry := range [][]byte{data, withChecksum(data)} {
			index++
			applied, err := m.Apply(index, entry)
			if err != nil {
				if !errors.Is(err, dems.ErrMalformed) && !errors.Is(err, ErrOrigin) || m.Digest() != before {
					t.Fatalf("refused with %v", err)
				}
				continue
			}
			before = applied.StateDigest
			if m.Recompute() != before || m.Digest() != before {
				t.Fatal("the digest is not that of the records")
			}
			if err := m.CheckInvariants(); err != nil {
				t.Fatal(err)
			}
			if _, err := dems.DecodeResults(applied.Results); err != nil && applied.Kind == dems.BatchEntry {
				t.Fatal(err)
			}
		}
		if restored := restoredFrom(t, m); restored.Digest() != before {
			t.Fatal("restored, it is another state")
		}
	})
}

// withChecksum returns an entry with its last four bytes replaced by the right checksum.
func withChecksum(data []byte) []byte {
	if len(data) < 6 {
		return data
	}
	body := data[:len(data)-4]
	return binary.LittleEndian.AppendUint32(slices.Clone(body), crc32.Checksum(body, castagnoli))
}
