package voting

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dems"
)

func equal(t *testing.T, want, got any) {
	t.Helper()
	if difference := cmp.Diff(want, got); difference != "" {
		t.Errorf("-want +got:\n%s", difference)
	}
}

// cast is one ballot of a test: of node n1 to n9, on an entry, for results and a state by their names.
type cast struct {
	node    int
	results string
	bytes   bool   // the results come along
	state   string // "" is not known
	index   uint64
}

func id(node int) dems.NodeID { return dems.NodeID(fmt.Sprint("n", node)) }

// state returns the digest that stands for a named state.
func state(name string) dems.Digest {
	if name == "" {
		return dems.Digest{}
	}
	return dems.DigestOf([]byte("state " + name))
}

func (c cast) ballot() Ballot {
	encoded := []byte(c.results)
	vote := dems.Vote{Node: id(c.node), Incarnation: 1, Index: c.index, Results: dems.DigestOf(encoded), State: state(c.state)}
	if !c.bytes {
		encoded = nil
	}
	return NewBallot(&vote, encoded)
}

func votersOf(number int) Voters {
	var voters Voters
	for i := range number {
		voters = append(voters, Voter{Node: id(i + 1), Incarnation: 1})
	}
	return voters
}

func TestTally(t *testing.T) {
	for name, test := range map[string]struct {
		voters           int
		casts            []cast
		winner           string
		index            uint64
		agreeing         int
		missing          []int
		split, scattered bool
	}{
		"nothing":                       {voters: 3},
		"one of three":                  {voters: 3, casts: []cast{{1, "a", true, "s", 1}}},
		"one of one":                    {voters: 1, casts: []cast{{1, "a", true, "s", 1}}, winner: "a", index: 1, agreeing: 1},
		"two of three":                  {voters: 3, casts: []cast{{1, "a", true, "s", 1}, {2, "a", false, "s", 1}}, winner: "a", index: 1, agreeing: 2},
		"two without results":           {voters: 3, casts: []cast{{1, "a", false, "s", 1}, {3, "a", false, "s", 1}}, agreeing: 2, missing: []int{1, 3}},
		"three of three":                {voters: 3, casts: []cast{{1, "a", false, "s", 1}, {2, "a", true, "s", 1}, {3, "a", false, "s", 1}}, winner: "a", index: 1, agreeing: 3},
		"two against one":               {voters: 3, casts: []cast{{1, "b", true, "s", 1}, {2, "a", true, "s", 1}, {3, "a", false, "s", 1}}, winner: "a", index: 1, agreeing: 2},
		"one against one":               {voters: 3, casts: []cast{{1, "b", true, "s", 1}, {2, "a", true, "s", 1}}},
		"three different":               {voters: 3, casts: []cast{{1, "a", true, "s", 1}, {2, "b", false, "s", 1}, {3, "c", true, "s", 1}}, split: true, missing: []int{2}},
		"one against one of two":        {voters: 2, casts: []cast{{1, "a", true, "s", 1}, {2, "b", true, "s", 1}}, split: true},
		"two of four":                   {voters: 4, casts: []cast{{1, "a", true, "s", 1}, {2, "a", true, "s", 1}, {3, "b", true, "s", 1}}},
		"two against two":               {voters: 4, casts: []cast{{1, "a", true, "s", 1}, {2, "a", true, "s", 1}, {3, "b", true, "s", 1}, {4, "b", true, "s", 1}}, split: true},
		"two against two of five":       {voters: 5, casts: []cast{{1, "a", true, "s", 1}, {2, "a", true, "s", 1}, {3, "b", true, "s", 1}, {4, "b", true, "s", 1}}},
		"split before the last of five": {voters: 5, casts: []cast{{1, "a", true, "s", 1}, {2, "b", true, "s", 1}, {3, "c", true, "s", 1}, {4, "d", true, "s", 1}}, split: true},
		"who does not vote":             {voters: 3, casts: []cast{{4, "a", true, "s", 1}, {1, "a", true, "s", 1}}},
		"who does not vote has results": {voters: 3, casts: []cast{{4, "a", true, "s", 1}, {1, "a", false, "s", 1}, {2, "a", false, "s", 1}}, agreeing: 2, missing: []int{1, 2}},
		"twice":                         {voters: 3, casts: []cast{{1, "a", true, "s", 1}, {1, "a", true, "s", 1}}},
		"another time":                  {voters: 3, casts: []cast{{1, "a", true, "s", 1}, {1, "b", true, "s", 1}, {2, "a", true, "s", 1}}, winner: "a", index: 1, agreeing: 2},
		"results later":                 {voters: 3, casts: []cast{{1, "a", false, "s", 1}, {2, "a", false, "s", 1}, {2, "a", true, "s", 1}}, winner: "a", index: 1, agreeing: 2},
		"other results later":           {voters: 3, casts: []cast{{1, "a", false, "s", 1}, {2, "a", false, "s", 1}, {2, "b", true, "s", 1}}},
		"nobody votes":                  {voters: 0, casts: []cast{{1, "a", true, "s", 1}}},

		"another state":                {voters: 3, casts: []cast{{1, "a", true, "s", 1}, {2, "a", true, "x", 1}}},
		"another state in the end":     {voters: 3, casts: []cast{{1, "a", true, "x", 1}, {2, "a", true, "s", 1}, {3, "a", false, "s", 1}}, winner: "a", index: 1, agreeing: 2},
		"three states, equal results":  {voters: 3, casts: []cast{{1, "a", true, "s", 1}, {2, "a", false, "x", 1}, {3, "a", true, "y", 1}}, split: true},
		"a forgotten state":            {voters: 3, casts: []cast{{1, "a", true, "", 1}, {2, "a", false, "s", 1}}, winner: "a", index: 1, agreeing: 2},
		"forgotten by all":             {voters: 3, casts: []cast{{1, "a", true, "", 1}, {2, "a", false, "", 1}}, winner: "a", index: 1, agreeing: 2},
		"remembered later":             {voters: 3, casts: []cast{{1, "a", true, "", 1}, {1, "a", false, "x", 1}, {2, "a", false, "s", 1}}},
		"states split of five":         {voters: 5, casts: []cast{{1, "a", true, "s", 1}, {2, "a", true, "x", 1}, {3, "a", true, "s", 1}, {4, "a", true, "x", 1}}},
		"one entry each":               {voters: 3, casts: []cast{{1, "a", true, "s", 1}, {2, "a", true, "s", 2}}},
		"an entry each, of all":        {voters: 3, casts: []cast{{1, "a", true, "s", 1}, {2, "a", true, "s", 2}, {3, "a", true, "s", 3}}, scattered: true},
		"the second entry agrees":      {voters: 3, casts: []cast{{1, "a", true, "s", 1}, {2, "a", true, "t", 2}, {1, "a", false, "t", 2}}, winner: "a", index: 2, agreeing: 2},
		"both agree, the first counts": {voters: 3, casts: []cast{{1, "b", true, "t", 2}, {2, "b", true, "t", 2}, {3, "b", true, "t", 2}, {1, "a", true, "s", 1}, {3, "a", true, "s", 1}}, winner: "a", index: 1, agreeing: 2},
		"split on one, open on other":  {voters: 3, casts: []cast{{1, "a", true, "s", 1}, {2, "b", true, "s", 1}, {3, "c", true, "s", 1}, {1, "a", true, "t", 2}}, scattered: true},
		"disclosed for the second":     {voters: 3, casts: []cast{{1, "a", false, "s", 1}, {3, "a", false, "s", 1}, {1, "a", true, "t", 2}}, winner: "a", index: 1, agreeing: 2},
		"others disclosed, the second": {voters: 3, casts: []cast{{1, "a", false, "s", 1}, {3, "a", false, "s", 1}, {1, "b", true, "t", 2}}, agreeing: 2, missing: []int{1, 3}},
		"made up for another entry":    {voters: 3, casts: []cast{{1, "a", true, "s", 1 << 60}, {2, "a", false, "s", 1}, {3, "a", true, "s", 1}}, winner: "a", index: 1, agreeing: 2},
	} {
		t.Run(name, func(t *testing.T) {
			var box Box
			for _, c := range test.casts {
				box.Cast(c.ballot())
			}
			got := box.Tally(votersOf(test.voters))
			if got.Won != (test.winner != "") || string(got.Winner.Bytes) != test.winner || got.Winner.Index != test.index {
				t.Errorf("winner %+v, want %q at %d", got.Winner, test.winner, test.index)
			}
			if got.Agreeing != test.agreeing || got.Split != test.split || got.Scattered != test.scattered {
				t.Errorf("got %+v", got)
			}
			var missing []int
			for _, node := range got.Missing {
				missing = append(missing, slices.Index([]dems.NodeID{"n1", "n2", "n3", "n4", "n5"}, node)+1)
			}
			equal(t, test.missing, missing)
		})
	}
}

func TestIncarnations(t *testing.T) {
	voters := Voters{{"n1", 2}, {"n2", 1}, {"n3", 0}}
	var box Box
	vote := func(node int, incarnation uint64) {
		vote := dems.Vote{Node: id(node), Incarnation: incarnation, Index: 1, Results: dems.DigestOf([]byte("a"))}
		box.Cast(NewBallot(&vote, []byte("a")))
	}
	vote(1, 1)
	vote(2, 2)
	if got := box.Tally(voters); got.Won {
		t.Errorf("earlier and later lives count: %+v", got)
	}
	equal(t, []dems.NodeID{"n1", "n2", "n3"}, box.Silent(voters))
	vote(3, 7)
	vote(1, 2)
	if got := box.Tally(voters); !got.Won || got.Agreeing != 2 {
		t.Errorf("got %+v", got)
	}
	equal(t, []dems.NodeID{"n2"}, box.Silent(voters))
}

// A node that makes up entries fills its own share of the box only.
func TestBoxIsBounded(t *testing.T) {
	var box Box
	for index := range uint64(1000) {
		box.Cast(cast{1, "a", true, "s", index + 10}.ballot())
	}
	box.Cast(cast{2, "a", true, "s", 1}.ballot())
	box.Cast(cast{3, "a", true, "s", 1}.ballot())
	if n := len(box.Ballots()); n != mostBallots+2 {
		t.Errorf("%d ballots", n)
	}
	if got := box.Tally(votersOf(3)); !got.Won || got.Winner.Index != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestFirst(t *testing.T) {
	var box Box
	if box.First() != nil {
		t.Error("results of nobody")
	}
	box.Cast(cast{1, "a", false, "s", 1}.ballot())
	box.Cast(cast{2, "b", true, "s", 1}.ballot())
	box.Cast(cast{3, "c", true, "s", 1}.ballot())
	equal(t, "b", string(box.First()))
}

// Silence is about the entry that most voted on: a node that voted on another one is asked again.
func TestSilent(t *testing.T) {
	var box Box
	equal(t, []dems.NodeID{"n1", "n2", "n3"}, box.Silent(votersOf(3)))
	box.Cast(cast{1, "a", true, "s", 9}.ballot())
	box.Cast(cast{2, "a", true, "s", 5}.ballot())
	equal(t, []dems.NodeID{"n1", "n3"}, box.Silent(votersOf(3)))
	box.Cast(cast{1, "a", true, "s", 5}.ballot())
	equal(t, []dems.NodeID{"n3"}, box.Silent(votersOf(3)))
}

func BenchmarkTally(b *testing.B) {
	for _, number := range []int{3, 5} {
		b.Run(fmt.Sprint(number), func(b *testing.B) {
			voters := votersOf(number)
			var ballots []Ballot
			for i := range number {
				ballots = append(ballots, cast{i + 1, "a", i == 0, "s", 1}.ballot())
			}
			b.ReportAllocs()
			for b.Loop() {
				var box Box
				for _, ballot := range ballots {
					if box.Cast(ballot); box.Tally(voters).Won {
						break
					}
				}
			}
		})
	}
}
