package verdict_test

import (
	"fmt"
	"strings"
	"testing"

	"dems"
	"dems/node/verdict"

	"pgregory.net/rapid"
)

// voters returns voters n1, n2 and so on, each in its first life.
func voters(count int) []dems.Member {
	members := make([]dems.Member, count)
	for i := range members {
		members[i] = dems.Member{ID: dems.NodeID(fmt.Sprintf("n%d", i+1)), Incarnation: 1, Suffrage: dems.Voter}
	}
	return members
}

func digest(letter byte) dems.Digest { return dems.Digest{letter} }

// vote makes a vote from a text: node, index, results and state as one letter each; results - is no batch.
func vote(text string) *dems.Vote {
	var v dems.Vote
	var node, results, state string
	if _, err := fmt.Sscan(text, &node, &v.Index, &results, &state); err != nil {
		panic(err)
	}
	v.Node, v.Incarnation, v.State = dems.NodeID(node), 1, digest(state[0])
	if results != "-" {
		v.Session, v.Batch, v.Results = 7, v.Index, digest(results[0])
	}
	return &v
}

// found lists findings as text.
func found(findings []verdict.Finding) string {
	var all []string
	for _, f := range findings {
		what := fmt.Sprintf("results %c not %c, %d in a row", f.Answered[0], f.Expected[0], f.Run)
		if f.WrongState {
			what = fmt.Sprintf("state %c not %c", f.Answered[0], f.Expected[0])
		}
		all = append(all, fmt.Sprintf("%s at %d: %s", f.Node, f.Index, what))
	}
	return strings.Join(all, "; ")
}

func TestRecords(t *testing.T) {
	for name, test := range map[string]struct {
		nodes int
		votes []string // vote, and after => what it shows
	}{
		"all agree": {3, []string{"n1 1 a A", "n2 1 a A", "n3 1 a A"}},
		"one is wrong about the state, first": {3, []string{
			"n1 1 a X", "n2 1 a A", "n3 1 a A => n1 at 1: state X not A"}},
		"one is wrong about the state, last": {3, []string{
			"n1 1 a A", "n2 1 a A", "n3 1 a X => n3 at 1: state X not A"}},
		"the same is found once": {3, []string{
			"n1 1 a A", "n2 1 a A", "n3 1 a X => n3 at 1: state X not A", "n3 1 a X", "n1 1 a A"}},
		"a late one is no wrong one": {3, []string{"n1 1 a A", "n2 1 a A", "n1 2 b B", "n2 2 b B", "n3 1 a A", "n3 2 b B"}},
		"results, three in a row": {3, []string{
			"n1 1 a A", "n2 1 a A", "n3 1 x A => n3 at 1: results x not a, 1 in a row",
			"n3 2 x B", "n2 2 b B", "n1 2 b B => n3 at 2: results x not b, 2 in a row",
			"n1 3 c C", "n3 3 x C", "n2 3 c C => n3 at 3: results x not c, 3 in a row"}},
		"a right one in between": {3, []string{
			"n1 1 a A", "n2 1 a A", "n3 1 x A => n3 at 1: results x not a, 1 in a row",
			"n1 2 b B", "n2 2 b B", "n3 2 b B",
			"n1 3 c C", "n2 3 c C", "n3 3 x C => n3 at 3: results x not c, 1 in a row"}},
		"two are wrong in different ways": {3, []string{"n1 1 a A", "n2 1 x A", "n3 1 a X => n2 at 1: results x not a, 1 in a row; n3 at 1: state X not A"}},
		"three different states":          {3, []string{"n1 1 a A", "n2 1 a X", "n3 1 a Y"}},
		"a state alone":                   {3, []string{"n1 1 - A", "n2 1 - A", "n3 1 - X => n3 at 1: state X not A"}},
		"a state seen again, after a batch": {3, []string{
			"n1 1 a A", "n2 1 a A", "n3 1 a A", "n3 1 - X => n3 at 1: state X not A"}},
		"a state that was wrong and is right": {3, []string{
			"n1 1 a A", "n2 1 a A", "n3 1 a X => n3 at 1: state X not A", "n3 1 a A", "n3 1 - X => n3 at 1: state X not A"}},
		"a state alone does not count as results": {3, []string{"n1 1 - A", "n2 1 a A", "n3 1 x A"}},
		"two of five are no majority":             {5, []string{"n1 1 a A", "n2 1 a A", "n3 1 a X"}},
		"three of five are": {5, []string{
			"n1 1 a A", "n2 1 a A", "n3 1 a X", "n4 1 y Y => n4 at 1: results y not a, 1 in a row",
			"n5 1 a A => n3 at 1: state X not A; n4 at 1: state Y not A"}},
		"a stranger":                    {3, []string{"n1 1 a A", "n2 1 a A", "n9 1 a X"}},
		"an index that left the window": {3, []string{"n1 5000 a A", "n2 5000 a A", "n3 904 a X", "n3 5000 a A"}},
		"a run judged in the wrong order": {3, []string{
			"n3 1 x A", "n3 2 x B", "n1 2 b B", "n2 2 b B => n3 at 2: results x not b, 1 in a row",
			"n1 1 a A", "n2 1 a A => n3 at 1: results x not a, 1 in a row"}},
	} {
		t.Run(name, func(t *testing.T) {
			records := verdict.NewRecords()
			records.SetVoters(voters(test.nodes))
			for _, line := range test.votes {
				text, want, _ := strings.Cut(line, " => ")
				var got []string
				for part := range strings.SplitSeq(found(records.Add(vote(text))), "; ") {
					got = append(got, part)
				}
				if !sameSet(got, strings.Split(want, "; ")) {
					t.Errorf("%s shows %q, want %q", text, got, want)
				}
			}
		})
	}
}

func sameSet(a, b []string) bool {
	counts := map[string]int{}
	for _, text := range a {
		counts[text]++
	}
	for _, text := range b {
		counts[text]--
	}
	for _, count := range counts {
		if count != 0 {
			return false
		}
	}
	return true
}

// TestRecordsForgetALife has a node come back: what its old life did does not count for the new one, nor does the old one
// count at all any more.
func TestRecordsForgetALife(t *testing.T) {
	records := verdict.NewRecords()
	members := voters(3)
	records.SetVoters(members)
	for _, text := range []string{"n1 1 a A", "n2 1 a A", "n3 1 x A", "n1 2 a B", "n2 2 a B", "n3 2 x B"} {
		records.Add(vote(text))
	}
	if _, wrong := records.WrongAt("n3", 1, 2); !wrong {
		t.Error("n3 was wrong at 2")
	}
	members[2].Incarnation = 2
	records.SetVoters(members)
	if _, wrong := records.WrongAt("n3", 2, 2); wrong {
		t.Error("the new life is blamed for the old one")
	}
	old, young := vote("n3 3 x C"), vote("n3 3 x C")
	young.Incarnation = 2
	records.Add(vote("n1 3 c C"))
	records.Add(vote("n2 3 c C"))
	if findings := records.Add(old); len(findings) != 0 {
		t.Errorf("a vote of the old life: %s", found(findings))
	}
	if findings := records.Add(young); len(findings) != 1 || findings[0].Run != 1 || findings[0].Incarnation != 2 {
		t.Errorf("a vote of the new life: %+v", findings)
	}
}

// TestVotesBeforeVoters takes votes in before it is known who votes.
func TestVotesBeforeVoters(t *testing.T) {
	records := verdict.NewRecords()
	for _, text := range []string{
		"n3 2 x B", "n1 1 a A", "n2 1 a A", "n3 1 x A", "n1 2 b B", "n2 2 b B", "n1 3 c C", "n2 3 c C", "n3 3 x C", "n9 3 y Y",
	} {
		if findings := records.Add(vote(text)); len(findings) > 0 {
			t.Errorf("%s shows %s", text, found(findings))
		}
	}
	want := "n3 at 1: results x not a, 1 in a row; n3 at 2: results x not b, 2 in a row; n3 at 3: results x not c, 3 in a row"
	if got := found(records.SetVoters(voters(3))); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := found(records.SetVoters(voters(3))); got != "" {
		t.Errorf("again: %s", got)
	}
}

func TestWrongAt(t *testing.T) {
	records := verdict.NewRecords()
	records.SetVoters(voters(3))
	for _, text := range []string{"n1 1 a A", "n2 1 a A", "n3 1 x A", "n1 2 a B", "n2 2 a X", "n3 2 a B", "n1 3 c C", "n3 3 x C"} {
		records.Add(vote(text))
	}
	for _, test := range []struct {
		node  dems.NodeID
		index uint64
		want  string
	}{
		{"n3", 1, "n3 at 1: results x not a, 0 in a row"},
		{"n2", 2, "n2 at 2: state X not B"},
		{"n1", 1, ""}, {"n3", 2, ""}, {"n3", 3, ""}, {"n2", 3, ""}, {"n3", 4, ""}, {"n9", 1, ""}, {"n3", 1 + verdict.Window, ""},
	} {
		finding, wrong := records.WrongAt(test.node, 1, test.index)
		got := ""
		if wrong {
			got = found([]verdict.Finding{finding})
		}
		if got != test.want {
			t.Errorf("%s at %d: %q, want %q", test.node, test.index, got, test.want)
		}
	}
	if _, wrong := records.WrongAt("n3", 2, 1); wrong {
		t.Error("another life is blamed")
	}
}

// TestRecordsNeverBlameTheRight votes at random, in random order, a minority of the nodes wrongly: nobody else is found
// wrong, and who was is found as soon as a majority of the right ones has voted.
func TestRecordsNeverBlameTheRight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := rapid.SampledFrom([]int{3, 5, 7}).Draw(t, "nodes")
		wrong := rapid.IntRange(0, (nodes-1)/2).Draw(t, "wrong")
		records := verdict.NewRecords()
		records.SetVoters(voters(nodes))
		var votes []*dems.Vote
		for index := range uint64(4) {
			for node := range nodes {
				v := vote(fmt.Sprintf("n%d %d a A", node+1, index+1))
				if node < wrong {
					v.State = digest('X' + byte(rapid.IntRange(0, 1).Draw(t, "how")))
				}
				votes = append(votes, v)
			}
		}
		blamed := map[string]bool{}
		for _, v := range rapid.Permutation(votes).Draw(t, "order") {
			for _, finding := range records.Add(v) {
				blamed[fmt.Sprint(finding.Node, finding.Index)] = true
				if finding.Node > dems.NodeID(fmt.Sprintf("n%d", wrong)) {
					t.Fatalf("%s is blamed, and %d are wrong", finding.Node, wrong)
				}
			}
		}
		if len(blamed) != wrong*4 {
			t.Fatalf("blamed %v, and %d are wrong", blamed, wrong)
		}
	})
}
