package fsm

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"dems"
)

// configure applies a configuration, written as "n1 n2.2 n3?": an ID, its incarnation if it is not the first, and a
// question mark for a nonvoter. It checks what must hold after every entry.
func (h *harness) configure(text string) Applied {
	h.t.Helper()
	h.index++
	applied, err := h.machine.ApplyConfiguration(h.index, configuration(text))
	if err != nil {
		h.t.Fatalf("configuration %d: %v", h.index, err)
	}
	if computed := h.machine.Recompute(); applied.StateDigest != computed || h.machine.Digest() != computed || h.machine.Index() != h.index {
		h.t.Fatalf("after configuration %d the digest is %s, its records have %s", h.index, applied.StateDigest, computed)
	}
	if err := h.machine.CheckInvariants(); err != nil {
		h.t.Fatalf("after configuration %d: %v", h.index, err)
	}
	h.last = applied
	return applied
}

func configuration(text string) []dems.Member {
	var members []dems.Member
	for word := range strings.FieldsSeq(text) {
		member := dems.Member{Incarnation: 1, Suffrage: dems.Voter, Address: "127.0.0.1:7001"}
		word, nonvoter := strings.CutSuffix(word, "?")
		if nonvoter {
			member.Suffrage = dems.Nonvoter
		}
		id, incarnation, found := strings.Cut(word, ".")
		member.ID = dems.NodeID(id)
		if found {
			if _, err := fmt.Sscan(incarnation, &member.Incarnation); err != nil {
				panic(err)
			}
		}
		members = append(members, member)
	}
	return members
}

// judge applies a verdict by the incarnations that the members have, and returns why it was refused.
func (h *harness) judge(by, node dems.NodeID) string {
	h.t.Helper()
	v := dems.Verdict{Node: node, Incarnation: 1, By: by, ByIncarnation: 1, Index: h.index, Expected: "this", Answered: "that", Time: h.now}
	for _, member := range h.machine.Members() {
		switch member.ID {
		case node:
			v.Incarnation = member.Incarnation
		case by:
			v.ByIncarnation = member.Incarnation
		}
	}
	return h.apply(dems.Entry{Kind: dems.VerdictEntry, Verdict: v}).Refused
}

// replace applies a replacement of a node as it stands, and returns why it was refused.
func (h *harness) replace(node dems.NodeID, automatic bool) string {
	h.t.Helper()
	r := dems.Replacement{Node: node, Incarnation: 1, By: "fe1", Cause: "because", Automatic: automatic, Time: h.now}
	if s := h.machine.cluster.standing(node); s != nil {
		r.Incarnation = s.Incarnation
	}
	return h.apply(dems.Entry{Kind: dems.ReplacementEntry, Replacement: r}).Refused
}

// stands returns the standings, as "n1 correct 1, n2 expelled 2".
func (h *harness) stands() string {
	var all []string
	for _, s := range h.machine.Standings() {
		all = append(all, fmt.Sprintf("%s %s %d", s.Node, s.Condition, s.Incarnation))
	}
	return strings.Join(all, ", ")
}

func (h *harness) wantStandings(want string) {
	h.t.Helper()
	if got := h.stands(); got != want {
		h.t.Fatalf("%s; want %s", got, want)
	}
}

// happened returns the incidents of the last entry, as "verdict n2, conviction n2".
func (h *harness) happened() string {
	var all []string
	for _, incident := range h.last.Incidents {
		if incident.Sequence != h.index {
			h.t.Errorf("incident %s has sequence %d at index %d", incident.Kind, incident.Sequence, h.index)
		}
		all = append(all, incident.Kind.String()+" "+string(incident.Node))
	}
	return strings.Join(all, ", ")
}

func (h *harness) wantIncidents(want string) {
	h.t.Helper()
	if got := h.happened(); got != want {
		h.t.Fatalf("%q happened; want %q", got, want)
	}
}

// TestReplacement is the whole way of a wrong node, out and in again.
func TestReplacement(t *testing.T) {
	h := newHarness(t)
	h.configure("n3 n1 n2")
	h.wantStandings("n1 correct 1, n2 correct 1, n3 correct 1")
	h.wantIncidents("")
	if members := h.machine.Members(); len(members) != 3 || members[0] != (dems.Member{ID: "n1", Incarnation: 1, Suffrage: dems.Voter}) {
		t.Errorf("%+v", members)
	}
	if refused := h.judge("n1", "n2"); refused != "" {
		t.Fatal(refused)
	}
	h.wantIncidents("verdict n2")
	h.wantStandings("n1 correct 1, n2 correct 1, n3 correct 1")
	h.judge("n3", "n2")
	h.wantIncidents("verdict n2, conviction n2")
	h.wantStandings("n1 correct 1, n2 convicted 1, n3 correct 1")
	for _, step := range []struct{ members, standings, incidents string }{
		{"n1 n2? n3", "n1 correct 1, n2 convicted 1, n3 correct 1", ""},
		{"n1 n3", "n1 correct 1, n2 expelled 2, n3 correct 1", "removal n2"},
		{"n1 n2.2? n3", "n1 correct 1, n2 rejoining 2, n3 correct 1", ""},
		{"n1 n2.2 n3", "n1 correct 1, n2 correct 2, n3 correct 1", "readdition n2"},
		{"n1 n2.2 n3", "n1 correct 1, n2 correct 2, n3 correct 1", ""},
	} {
		h.configure(step.members)
		h.wantStandings(step.standings)
		h.wantIncidents(step.incidents)
		h.machine = restoredFrom(t, h.machine)
	}
	if since := h.machine.Standings()[1].Since; since != h.index-1 {
		t.Errorf("n2 is correct since %d, want %d", since, h.index-1)
	}
	if all := h.machine.Incidents(0); len(all) != 5 || all[2].Expected != "this" || all[2].Answered != "that" || all[2].By != "" {
		t.Errorf("%+v", all)
	}
}

// TestQuarantine replaces a node three times within an hour; the fourth time it stays out until it is let in by hand.
func TestQuarantine(t *testing.T) {
	h := newHarness(t)
	h.configure("n1 n2 n3")
	convict := func() {
		h.judge("n1", "n2")
		h.judge("n3", "n2")
	}
	for incarnation := 1; incarnation <= dems.MaxReplacementsPerHour; incarnation++ {
		h.now = h.now.Add(15 * time.Minute)
		convict()
		h.configure("n1 n3")
		h.wantIncidents("removal n2")
		h.configure(fmt.Sprintf("n1 n2.%d? n3", incarnation+1))
		h.configure(fmt.Sprintf("n1 n2.%d n3", incarnation+1))
		h.machine = restoredFrom(t, h.machine)
	}
	convict()
	h.configure("n1 n3")
	h.wantIncidents("removal n2, quarantine n2")
	h.wantStandings("n1 correct 1, n2 quarantined 5, n3 correct 1")
	if refused := h.replace("n2", true); !strings.Contains(refused, "by hand") {
		t.Errorf("refused with %q", refused)
	}
	if refused := h.replace("n2", false); refused != "" {
		t.Fatal(refused)
	}
	h.wantStandings("n1 correct 1, n2 expelled 5, n3 correct 1")
	h.configure("n1 n2.5 n3")
	convict()
	h.configure("n1 n3")
	h.wantStandings("n1 correct 1, n2 expelled 6, n3 correct 1") // it was counted anew
}

// TestOldReplacementsDoNotCount spreads four replacements over more than an hour.
func TestOldReplacementsDoNotCount(t *testing.T) {
	h := newHarness(t)
	h.configure("n1 n2 n3")
	for incarnation := 1; incarnation <= 2*dems.MaxReplacementsPerHour; incarnation++ {
		h.now = h.now.Add(20*time.Minute + time.Millisecond)
		if refused := h.replace("n2", true); refused != "" {
			t.Fatal(refused)
		}
		h.configure("n1 n3")
		h.wantIncidents("removal n2")
		h.configure(fmt.Sprintf("n1 n2.%d n3", incarnation+1))
	}
}

// TestNoTimeAtAll shows that removals count where no entry has said what time it is.
func TestNoTimeAtAll(t *testing.T) {
	h := newHarness(t)
	h.now = time.UnixMilli(0)
	h.configure("n1 n2 n3")
	for incarnation, want := range []string{"removal n2", "removal n2", "removal n2", "removal n2, quarantine n2"} {
		h.replace("n2", true)
		h.configure("n1 n3")
		h.wantIncidents(want)
		h.configure(fmt.Sprintf("n1 n2.%d n3", incarnation+2))
	}
}

func TestConfigurationsThatAreNone(t *testing.T) {
	h := newHarness(t)
	h.configure("n1 n2 n3")
	before := h.machine.Digest()
	for _, text := range []string{"n1 n1", "n1 n1.2", "N1", "n1.0"} {
		if _, err := h.machine.ApplyConfiguration(h.index+1, configuration(text)); !errors.Is(err, dems.ErrMalformed) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := h.machine.ApplyConfiguration(h.index+1, []dems.Member{{ID: "n1", Incarnation: 1, Suffrage: dems.None}}); !errors.Is(err, dems.ErrMalformed) {
		t.Error(err)
	}
	if _, err := h.machine.ApplyConfiguration(h.index, configuration("n1")); !errors.Is(err, ErrOutOfOrder) {
		t.Error(err)
	}
	if h.machine.Digest() != before || len(h.machine.Members()) != 3 {
		t.Error("the state has changed")
	}
}

// TestOldestStandingGivesWay shows that members never lose theirs.
func TestOldestStandingGivesWay(t *testing.T) {
	h := newHarness(t)
	h.machine.limits.registrations = 4
	h.configure("n1 n2 n3")
	h.configure("n1 n3")
	h.configure("n1 n3 n4")
	h.configure("n1 n3")
	h.configure("n1 n3 n5")
	h.wantStandings("n1 correct 1, n3 correct 1, n4 expelled 2, n5 correct 1")
	h.configure("n1 n6 n7 n8")
	h.wantStandings("n1 correct 1, n6 correct 1, n7 correct 1, n8 correct 1")
}

// TestIncidentsAreAnswered shows what a query gives, and that the oldest are forgotten.
func TestIncidentsAreAnswered(t *testing.T) {
	h := newHarness(t)
	h.machine.limits.incidents = 3
	ask := func(from uint64) (uint64, []uint64) {
		answer := h.machine.Query(&dems.Query{Kind: dems.IncidentsQuery, From: from})
		incidents, err := dems.DecodeIncidents(answer.Result)
		if err != nil {
			t.Fatal(err)
		}
		sequences := []uint64{}
		for _, incident := range incidents {
			sequences = append(sequences, incident.Sequence)
		}
		return answer.Version, sequences
	}
	if version, sequences := ask(0); version != 0 || len(sequences) != 0 {
		t.Errorf("version %d, %v", version, sequences)
	}
	first := h.index + 1
	for range 5 {
		if refused := h.report(dems.SuspicionIncident); refused != "" {
			t.Fatal(refused)
		}
	}
	for from, want := range map[uint64][]uint64{0: {first + 2, first + 3, first + 4}, first + 3: {first + 3, first + 4}, first + 5: {}} {
		if version, sequences := ask(from); version != first+4 || !slices.Equal(sequences, want) {
			t.Errorf("from %d: version %d, %v", from, version, sequences)
		}
	}
}

// report applies an incident that a node reports, and returns why it was refused.
func (h *harness) report(kind dems.IncidentKind) string {
	h.t.Helper()
	return h.apply(dems.Entry{Kind: dems.IncidentEntry, Incident: dems.Incident{
		Kind: kind, Time: h.now, Node: "n2", Incarnation: 1, By: "n1", Detail: "It does not answer.",
	}}).Refused
}

// TestLastHealth finds the newest suspicion or recovery of an incarnation, whatever else happened to it since.
func TestLastHealth(t *testing.T) {
	h := newHarness(t)
	h.configure("n1 n2 n3")
	want := func(kind dems.IncidentKind, sequence uint64) {
		t.Helper()
		if last, known := h.machine.LastHealth("n2", 1, 0); known != (kind != 0) || last.Kind != kind || last.Sequence != sequence {
			t.Fatalf("%v %+v; want %v at %d", known, last, kind, sequence)
		}
	}
	want(0, 0)
	h.report(dems.LeaderChangeIncident)
	want(0, 0)
	h.report(dems.SuspicionIncident)
	suspected := h.index
	want(dems.SuspicionIncident, suspected)
	h.report(dems.AccusationIncident)
	want(dems.SuspicionIncident, suspected)
	h.report(dems.RecoveryIncident)
	want(dems.RecoveryIncident, h.index)
	if last, known := h.machine.LastHealth("n2", 1, h.index-1); !known || last.Sequence != h.index {
		t.Errorf("%v %+v", known, last)
	}
	if last, known := h.machine.LastHealth("n2", 1, h.index); known {
		t.Errorf("not after it: %+v", last)
	}
	for _, other := range []dems.Member{{ID: "n2", Incarnation: 2}, {ID: "n3", Incarnation: 1}} {
		if last, known := h.machine.LastHealth(other.ID, other.Incarnation, 0); known {
			t.Errorf("%+v: %+v", other, last)
		}
	}
}
