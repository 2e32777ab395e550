package frontend

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"dems"
	"dems/frontend/voting"
)

// electionOf returns a view of so many voters and one node that does not vote.
func electionOf(voters int) *view {
	v := &view{}
	for i := range voters + 1 {
		n := &node{}
		id := dems.NodeID(fmt.Sprint("n", i+1))
		n.id.Store(&id)
		v.nodes = append(v.nodes, n)
	}
	v.voters = v.nodes[:voters]
	for _, n := range v.voters {
		v.electors = append(v.electors, voting.Voter{Node: n.name()})
	}
	return v
}

func TestVoteInAnothersName(t *testing.T) {
	v := electionOf(3)
	f, p := newFlight(1, 1, nil), &proposer{}
	for _, n := range v.voters {
		p.cast(f, n, &dems.Vote{Node: "n1", Results: dems.DigestOf([]byte("a"))}, nil)
	}
	if got := f.tally(v); got.Agreeing != 0 || len(f.box.Ballots()) != 1 {
		t.Errorf("got %+v and %d ballots", got, len(f.box.Ballots()))
	}
	equal(t, 2, len(f.silent(v)))
}

// A reply without results is wrong results; it does not make the voter ask for them again and again.
func TestReplyWithoutResults(t *testing.T) {
	v := electionOf(3)
	f, p := newFlight(1, 1, nil), &proposer{}
	digest := dems.DigestOf([]byte("a"))
	for _, n := range v.voters {
		p.castReply(f, n, &dems.BatchReply{Vote: dems.Vote{Node: n.name(), Results: digest}})
	}
	if got := f.tally(v); !got.Won || len(got.Winner.Bytes) != 0 || len(got.Missing) != 0 {
		t.Errorf("got %+v", got)
	}
	if got := f.silent(v); len(got) != 0 {
		t.Errorf("%d are silent", len(got))
	}
}

// late looks for a version that a node has that is right, whatever wrong ones claim.
func TestLateVersions(t *testing.T) {
	for name, test := range map[string]struct {
		voters   int
		versions []uint64 // in the order of the nodes
		late     []int
		version  uint64
	}{
		"one answer":                   {3, []uint64{5}, nil, 0},
		"two, one may be late":         {3, []uint64{5, 3}, []int{2}, 5},
		"three, one may be wrong":      {3, []uint64{9, 5, 3}, []int{3}, 5},
		"three, two alike":             {3, []uint64{9, 5, 5}, nil, 0},
		"two of five":                  {5, []uint64{9, 5}, nil, 0},
		"three of five":                {5, []uint64{9, 5, 3}, []int{2, 3}, 9},
		"four of five, one is missing": {5, []uint64{9, 5, 3, 2}, []int{3, 4}, 5},
		"five, two may be wrong":       {5, []uint64{9, 8, 3, 2, 1}, []int{4, 5}, 3},
		"one":                          {1, []uint64{9}, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			v := electionOf(test.voters)
			q := &reading{wake: make(chan struct{}, 1)}
			for i, version := range test.versions {
				q.answer(nodeAnswer{node: v.nodes[i], applied: 100, answer: dems.Answer{Version: version, Result: bytes.Repeat([]byte{1}, i)}})
			}
			for _, want := range [][]int{test.late, nil} { // the second time they are being asked already
				late, version := q.late(v)
				var got []int
				for _, n := range late {
					got = append(got, slices.Index(v.nodes, n)+1)
				}
				equal(t, want, got)
				if len(want) > 0 && version != test.version {
					t.Errorf("version %d, want %d", version, test.version)
				}
			}
		})
	}
}
