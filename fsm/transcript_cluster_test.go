package fsm

import (
	"fmt"
	"strconv"
	"strings"

	"dems"
)

// stepOfCluster executes a step of a transcript that is about the nodes themselves, and tells whether it is one.
func (s *transcript) stepOfCluster(words []string) bool {
	entry := dems.Entry{}
	switch words[0] {
	case "configuration":
		s.configure(strings.Join(words[1:], " "))
		s.showIncidents(s.last.Incidents)
		return true
	case "standings":
		for i := range s.machine.cluster.standings {
			s.print("%s", describeStanding(&s.machine.cluster.standings[i]))
		}
		return true
	case "incidents":
		from := uint64(0)
		if len(words) > 1 {
			from, _ = strconv.ParseUint(words[1], 10, 64)
		}
		s.showIncidents(s.machine.Incidents(from))
		return true
	case "node":
		id, incarnation := s.named(words[1])
		entry = dems.Entry{Kind: dems.RegisterNodeEntry, Registration: node(string(id), incarnation)}
	case "verdict":
		by, byIncarnation := s.named(words[1])
		of, incarnation := s.named(words[2])
		entry = dems.Entry{Kind: dems.VerdictEntry, Verdict: dems.Verdict{Node: of, Incarnation: incarnation, By: by,
			ByIncarnation: byIncarnation, Index: s.index, Expected: "booked", Answered: "event_full", Time: s.now}}
	case "replacement":
		of, incarnation := s.named(words[1])
		entry = dems.Entry{Kind: dems.ReplacementEntry, Replacement: dems.Replacement{Node: of, Incarnation: incarnation, By: "fe1",
			Cause: "It is slow.", Automatic: len(words) > 2, Time: s.now}}
	case "incident":
		of, incarnation := s.named(words[2])
		entry = dems.Entry{Kind: dems.IncidentEntry, Incident: dems.Incident{Time: s.now, Node: of, Incarnation: incarnation, By: "n1",
			Detail: "So n1 says."}}
		for _, kind := range dems.IncidentKinds() {
			if kind.String() == words[1] {
				entry.Incident.Kind = kind
			}
		}
	default:
		return false
	}
	if applied := s.apply(entry); applied.Refused != "" {
		s.print("refused: %s", applied.Refused)
	}
	s.showIncidents(s.last.Incidents)
	return true
}

// named reads n2.3, a node and its incarnation. Without one it is that of the member, else of the standing, else 1.
func (s *transcript) named(word string) (dems.NodeID, uint64) {
	id, text, found := strings.Cut(word, ".")
	incarnation := uint64(1)
	if found {
		var err error
		if incarnation, err = strconv.ParseUint(text, 10, 64); err != nil {
			s.t.Fatal(err)
		}
	} else if member := s.machine.cluster.member(dems.NodeID(id)); member != nil {
		incarnation = member.Incarnation
	} else if known := s.machine.cluster.standing(dems.NodeID(id)); known != nil {
		incarnation = known.Incarnation
	}
	return dems.NodeID(id), incarnation
}

func describeStanding(s *standing) string {
	text := fmt.Sprintf("%s.%d %s since %d", s.Node, s.Incarnation, s.Condition, s.Since)
	if s.ByHand {
		text += ", by hand"
	}
	for _, removed := range s.removals {
		if removed != 0 {
			text += fmt.Sprintf(", removed %s", clockOf(removed))
		}
	}
	return text
}

func (s *transcript) showIncidents(incidents []dems.Incident) {
	for i := range incidents {
		incident := &incidents[i]
		text := fmt.Sprintf("%d %s %s of %s.%d", incident.Sequence, clockOf(uint64(incident.Time.UnixMilli())), incident.Kind,
			incident.Node, incident.Incarnation)
		if incident.By != "" {
			text += " by " + incident.By
		}
		if incident.Index != 0 {
			text += fmt.Sprintf(" at %d (%s, not %s)", incident.Index, incident.Expected, incident.Answered)
		}
		s.print("%s: %s", text, incident.Detail)
	}
}

// clockOf returns how long after the beginning of the story a log time is.
func clockOf(milliseconds uint64) string {
	return fmt.Sprintf("+%d min", (int64(milliseconds)-testTime.UnixMilli())/60_000)
}
