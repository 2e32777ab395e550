package node

import (
	"testing"
	"time"

	"dems"
)

// TestStubbornLeader has a convicted leader go on leading: one peer after the other takes over, each once in a term.
func TestStubbornLeader(t *testing.T) {
	s := standing{standings: []dems.Standing{
		{Node: "n1", Incarnation: 1}, {Node: "n2", Incarnation: 1, Condition: dems.Convicted}, {Node: "n3", Incarnation: 1},
	}}
	for _, id := range []dems.NodeID{"n1", "n2", "n3"} {
		s.members = append(s.members, dems.Member{ID: id, Incarnation: 1, Suffrage: dems.Voter})
	}
	start := time.Unix(0, 0)
	for _, test := range []struct {
		self dems.NodeID
		due  time.Duration
	}{{"n1", handOverTime}, {"n3", handOverTime + takeOverTime}} {
		var l stubbornLeader
		at := func(after time.Duration, leader dems.NodeID, term uint64) bool {
			return l.isDue(&s, leader, test.self, term, start.Add(after))
		}
		if at(0, "n2", 5) || at(test.due-time.Millisecond, "n2", 5) {
			t.Errorf("%s: too early", test.self)
		}
		if !at(test.due, "n2", 5) {
			t.Errorf("%s: not when it is due", test.self)
		}
		if at(2*test.due, "n2", 5) {
			t.Errorf("%s: twice in a term", test.self)
		}
		if at(2*test.due, "n2", 6) || !at(3*test.due, "n2", 6) {
			t.Errorf("%s: the next term", test.self)
		}
		if at(3*test.due, "n1", 7) || at(9*test.due, "n1", 7) || at(10*test.due, "", 7) {
			t.Errorf("%s: a leader that is right", test.self)
		}
		if at(10*test.due, "n2", 8) || !at(11*test.due, "n2", 8) {
			t.Errorf("%s: it leads again", test.self)
		}
	}
	s.members = append(s.members, dems.Member{ID: "n4", Incarnation: 2, Suffrage: dems.Nonvoter})
	for _, self := range []dems.NodeID{"n4", "n5"} {
		var l stubbornLeader
		if l.isDue(&s, "n2", self, 5, start) || l.isDue(&s, "n2", self, 5, start.Add(time.Hour)) {
			t.Errorf("%s has no vote and takes over", self)
		}
	}
	var l stubbornLeader
	if l.isDue(&s, "n2", "n2", 5, start) || l.isDue(&s, "n2", "n2", 5, start.Add(time.Hour)) {
		t.Error("the leader takes over from itself")
	}
}
