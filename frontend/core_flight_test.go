package frontend

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"dems"
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
	return v
}

// cast is a vote: what a node got, and whether it handed it out.
type castVote struct {
	node    int // counted from 1
	got     string
	results bool
}

func TestTally(t *testing.T) {
	for name, test := range map[string]struct {
		voters   int
		votes    []castVote
		winner   string
		agreeing int
		missing  []int
		split    bool
	}{
		"nothing":                       {voters: 3},
		"one of three":                  {voters: 3, votes: []castVote{{1, "a", true}}},
		"one of one":                    {voters: 1, votes: []castVote{{1, "a", true}}, winner: "a", agreeing: 1},
		"two of three":                  {voters: 3, votes: []castVote{{1, "a", true}, {2, "a", false}}, winner: "a", agreeing: 2},
		"two without results":           {voters: 3, votes: []castVote{{1, "a", false}, {3, "a", false}}, agreeing: 2, missing: []int{1, 3}},
		"three of three":                {voters: 3, votes: []castVote{{1, "a", false}, {2, "a", true}, {3, "a", false}}, winner: "a", agreeing: 3},
		"two against one":               {voters: 3, votes: []castVote{{1, "b", true}, {2, "a", true}, {3, "a", false}}, winner: "a", agreeing: 2},
		"one against one":               {voters: 3, votes: []castVote{{1, "b", true}, {2, "a", true}}},
		"three different":               {voters: 3, votes: []castVote{{1, "a", true}, {2, "b", false}, {3, "c", true}}, split: true, missing: []int{2}},
		"one against one of two":        {voters: 2, votes: []castVote{{1, "a", true}, {2, "b", true}}, split: true},
		"two of four":                   {voters: 4, votes: []castVote{{1, "a", true}, {2, "a", true}, {3, "b", true}}},
		"two against two":               {voters: 4, votes: []castVote{{1, "a", true}, {2, "a", true}, {3, "b", true}, {4, "b", true}}, split: true},
		"two against two of five":       {voters: 5, votes: []castVote{{1, "a", true}, {2, "a", true}, {3, "b", true}, {4, "b", true}}},
		"split before the last of five": {voters: 5, votes: []castVote{{1, "a", true}, {2, "b", true}, {3, "c", true}, {4, "d", true}}, split: true},
		"who does not vote":             {voters: 3, votes: []castVote{{4, "a", true}, {1, "a", true}}},
		"who does not vote has results": {voters: 3, votes: []castVote{{4, "a", true}, {1, "a", false}, {2, "a", false}}, agreeing: 2, missing: []int{1, 2}},
		"twice":                         {voters: 3, votes: []castVote{{1, "a", true}, {1, "a", true}}},
		"another time":                  {voters: 3, votes: []castVote{{1, "a", true}, {1, "b", true}, {2, "a", true}}, winner: "a", agreeing: 2},
		"results later":                 {voters: 3, votes: []castVote{{1, "a", false}, {2, "a", false}, {2, "a", true}}, winner: "a", agreeing: 2},
		"other results later":           {voters: 3, votes: []castVote{{1, "a", false}, {2, "a", false}, {2, "b", true}}},
		"nobody votes":                  {voters: 0, votes: []castVote{{1, "a", true}}},
	} {
		t.Run(name, func(t *testing.T) {
			v := electionOf(test.voters)
			f := &flight{wake: make(chan struct{}, 1)}
			for _, vote := range test.votes {
				n, results := v.nodes[vote.node-1], []byte(vote.got)
				if vote.results {
					f.castReply(n, &dems.BatchReply{Vote: dems.Vote{Node: n.name()}, Results: results})
				} else {
					f.cast(n, &dems.Vote{Node: n.name(), Results: dems.DigestOf(results)}, nil)
				}
			}
			got := f.tally(v)
			if got.winner == nil != (test.winner == "") || got.winner != nil && string(got.winner.results) != test.winner {
				t.Errorf("winner %+v, want %q", got.winner, test.winner)
			}
			if got.agreeing != test.agreeing || got.split != test.split {
				t.Errorf("%d agree, split %v; want %d, %v", got.agreeing, got.split, test.agreeing, test.split)
			}
			var missing []int
			for _, n := range got.missing {
				missing = append(missing, slices.Index(v.nodes, n)+1)
			}
			equal(t, test.missing, missing)
		})
	}
}

// A reply without results is wrong results; it does not make the voter ask for them again and again.
func TestReplyWithoutResults(t *testing.T) {
	v := electionOf(3)
	f := &flight{wake: make(chan struct{}, 1)}
	digest := dems.DigestOf([]byte("a"))
	for _, n := range v.voters {
		f.castReply(n, &dems.BatchReply{Vote: dems.Vote{Node: n.name(), Results: digest}})
	}
	if got := f.tally(v); got.winner == nil || len(got.winner.results) != 0 || len(got.missing) != 0 {
		t.Errorf("got %+v", got)
	}
	if got := f.silent(v); len(got) != 0 {
		t.Errorf("%d are silent", len(got))
	}
}

func TestVoteInAnothersName(t *testing.T) {
	v := electionOf(3)
	f := &flight{wake: make(chan struct{}, 1)}
	for _, n := range v.voters {
		f.cast(n, &dems.Vote{Node: "n1", Results: dems.DigestOf([]byte("a"))}, nil)
	}
	if got := f.tally(v); got.agreeing != 0 || len(f.ballots) != 1 {
		t.Errorf("got %+v and %d ballots", got, len(f.ballots))
	}
	equal(t, 2, len(f.silent(v)))
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
				q.answer(v.nodes[i], 100, dems.Answer{Version: version, Result: bytes.Repeat([]byte{1}, i)})
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
