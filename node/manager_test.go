package node

import (
	"testing"
	"time"

	"dems"
	"dems/node/verdict"
)

// threeVoters are n1, n2 and n3 in their first lives.
func threeVoters() (voters []dems.Member, standings []dems.Standing) {
	for _, id := range []dems.NodeID{"n1", "n2", "n3"} {
		voters = append(voters, dems.Member{ID: id, Incarnation: 1, Suffrage: dems.Voter})
		standings = append(standings, dems.Standing{Node: id, Incarnation: 1})
	}
	return voters, standings
}

// wrongState is a vote for another state than the others have.
func wrongState(id dems.NodeID, index uint64) []dems.Vote {
	return []dems.Vote{{Node: id, Incarnation: 1, Index: index, State: dems.Digest{2}}}
}

// TestNobodyVotesInAnothersName has a wrong node say what others voted for: it makes nobody look wrong but itself.
func TestNobodyVotesInAnothersName(t *testing.T) {
	voters, standings := threeVoters()
	m := newManager()
	m.setVoters(voters)
	for index := uint64(1); index <= 3; index++ {
		m.add("n3", wrongState("n2", index), verdict.Window)
		m.add("n1", []dems.Vote{{Node: "n1", Incarnation: 1, Index: index, State: dems.Digest{1}}}, verdict.Window)
		m.add("n3", []dems.Vote{{Node: "n3", Incarnation: 1, Index: index, State: dems.Digest{1}}}, verdict.Window)
		m.add("n3", wrongState("n2", index), verdict.Window)
	}
	if findings := m.due(time.Now(), standings, "n1"); len(findings) > 0 {
		t.Errorf("by the word of n3: %+v", findings)
	}
	m.add("n2", wrongState("n2", 3), verdict.Window)
	if findings := m.due(time.Now(), standings, "n1"); len(findings) != 1 || findings[0].Node != "n2" {
		t.Errorf("by its own word n2 was wrong: %+v", findings)
	}
}

func TestOnlyMembersAreThere(t *testing.T) {
	voters, _ := threeVoters()
	s := standing{members: voters}
	if !s.has("n2", 1) {
		t.Error("n2 is a member")
	}
	if s.has("n2", 2) || s.has("n2", 0) || s.has("n4", 1) || s.has("", 1) {
		t.Error("a life that is no member is there")
	}
}
