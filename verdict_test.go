package dems_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dems"
)

func TestIncidentsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		incidents := drawIncidents(t)
		decoded, err := dems.DecodeIncidents(dems.AppendIncidents(nil, incidents))
		if err != nil || !reflect.DeepEqual(decoded, incidents) {
			t.Fatalf("%+v come back as %+v, %v", incidents, decoded, err)
		}
	})
}

// TestMostIncidentsRoundTrip shows that what the state remembers at most, with the longest texts, can be answered.
func TestMostIncidentsRoundTrip(t *testing.T) {
	text := strings.Repeat("x", dems.MaxEvidenceBytes)
	incidents := make([]dems.Incident, dems.MaxIncidents)
	for i := range incidents {
		incidents[i] = dems.Incident{
			Sequence: uint64(i), Time: time.UnixMilli(1<<47 - 1).UTC(), Kind: dems.NoMajorityIncident, Node: dems.NodeID(strings.Repeat("n", 32)),
			Incarnation: 1<<64 - 1, By: strings.Repeat("f", dems.MaxNameBytes), Index: 1<<64 - 1, Expected: text, Answered: text, Detail: text,
		}
	}
	data := dems.AppendIncidents(nil, incidents)
	if decoded, err := dems.DecodeIncidents(data); err != nil || !reflect.DeepEqual(decoded, incidents) {
		t.Errorf("%d bytes: %v", len(data), err)
	}
	if len(data) > 2<<20 {
		t.Errorf("%d bytes in one answer", len(data))
	}
	if _, err := dems.DecodeIncidents(dems.AppendIncidents(nil, append(incidents, incidents[0]))); !errors.Is(err, dems.ErrMalformed) {
		t.Errorf("one more: %v", err)
	}
}

// TestIncidentsBytes pins the format of answers.
func TestIncidentsBytes(t *testing.T) {
	incidents := []dems.Incident{{Sequence: 300, Kind: dems.RemovalIncident, Time: time.UnixMilli(1), Node: "n2", Incarnation: 3, Detail: "d"}}
	if got, want := hex.EncodeToString(dems.AppendIncidents(nil, incidents)), "01"+"ac02"+"0401026e3203000000000164"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestIncidentsRefuseWhatEncodersNeverWrite(t *testing.T) {
	one := "\x07\x01\x00\x00\x00\x00\x00\x00\x00\x00"
	for name, test := range map[string]struct{ data, want string }{
		"none":         {"\x00", ""},
		"one":          {"\x01" + one, ""},
		"nothing":      {"", "bad varint"},
		"one, missing": {"\x01", "truncated"},
		"two, missing": {"\x02" + one, "truncated"},
		"1025":         {"\x81\x08" + strings.Repeat(one, 1025), "too many"},
		"trailing":     {"\x01" + one + "\x00", "trailing"},
		"unknown kind": {"\x01\x07\x0b\x00\x00\x00\x00\x00\x00\x00\x00", "kind of incident"},
		"no node's ID": {"\x01\x07\x01\x00\x01N\x00\x00\x00\x00\x00\x00", "node ID"},
	} {
		_, err := dems.DecodeIncidents([]byte(test.data))
		if test.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		} else if !errors.Is(err, dems.ErrMalformed) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, test.want)
		}
	}
}

// TestLargestVerdictFits shows that the limits agree: the longest texts make a legal entry.
func TestLargestVerdictFits(t *testing.T) {
	text, name := strings.Repeat("x", dems.MaxEvidenceBytes), dems.NodeID(strings.Repeat("n", 32))
	for _, entry := range []dems.Entry{
		{Kind: dems.VerdictEntry, Verdict: dems.Verdict{Node: name, Incarnation: 1<<64 - 1, By: name, ByIncarnation: 1<<64 - 1,
			Index: 1<<64 - 1, Expected: text, Answered: text, Time: time.UnixMilli(1<<47 - 1).UTC()}},
		{Kind: dems.ReplacementEntry, Replacement: dems.Replacement{Node: name, Incarnation: 1<<64 - 1, By: strings.Repeat("f", dems.MaxNameBytes),
			Cause: text, Automatic: true, Time: time.UnixMilli(1<<47 - 1).UTC()}},
		{Kind: dems.IncidentEntry, Incident: dems.Incident{Kind: dems.AccusationIncident, Time: time.UnixMilli(1<<47 - 1).UTC(), Node: name,
			Incarnation: 1<<64 - 1, By: strings.Repeat("f", dems.MaxNameBytes), Index: 1<<64 - 1, Expected: text, Answered: text, Detail: text}},
	} {
		if decoded, err := dems.DecodeEntry(dems.AppendEntry(nil, &entry)); err != nil || !reflect.DeepEqual(decoded, entry) {
			t.Errorf("kind %d: %+v, %v", entry.Kind, decoded, err)
		}
	}
}

// TestNamesOfWhatHappens pins the names, which clients and operators see, in the order of their numbers, which are stored.
func TestNamesOfWhatHappens(t *testing.T) {
	var kinds, conditions []string
	for i, kind := range dems.IncidentKinds() {
		if kind != dems.IncidentKind(i+1) {
			t.Errorf("kind %d stands at %d", kind, i)
		}
		text, err := kind.MarshalText()
		if err != nil || string(text) != kind.String() {
			t.Errorf("%s is written as %s, %v", kind, text, err)
		}
		kinds = append(kinds, kind.String())
	}
	for condition := dems.Correct; condition <= dems.Quarantined; condition++ {
		conditions = append(conditions, condition.String())
	}
	for _, test := range []struct {
		got  []string
		want string
	}{
		{kinds, "accusation verdict conviction removal readdition quarantine suspicion recovery leader-change no-majority"},
		{conditions, "correct convicted expelled rejoining quarantined"},
		{[]string{dems.IncidentKind(0).String(), dems.IncidentKind(11).String(), (dems.Quarantined + 1).String()}, "unknown unknown unknown"},
	} {
		if got := strings.Join(test.got, " "); got != test.want {
			t.Errorf("%s; want %s", got, test.want)
		}
	}
}

// FuzzIncidents shows that what decodes encodes to the same bytes again.
func FuzzIncidents(f *testing.F) {
	rapid.Check(f, func(t *rapid.T) { f.Add(dems.AppendIncidents(nil, drawIncidents(t))) })
	f.Fuzz(func(t *testing.T, data []byte) {
		incidents, err := dems.DecodeIncidents(data)
		if err != nil {
			if !errors.Is(err, dems.ErrMalformed) {
				t.Errorf("%x: %v", data, err)
			}
			return
		}
		if again := dems.AppendIncidents(nil, incidents); !bytes.Equal(again, data) {
			t.Errorf("%x encodes as %x", data, again)
		}
	})
}
