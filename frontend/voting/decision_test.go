package voting

import (
	"testing"

	"dems"
)

// encode returns the encoded results of a batch whose commands gave events of those capacities.
func encode(capacities ...uint32) []byte {
	results := make([]dems.Result, len(capacities))
	for i, capacity := range capacities {
		results[i] = dems.Result{Sequence: 1, Event: dems.EventView{Capacity: capacity}}
	}
	return dems.AppendResults(nil, results)
}

// ballot returns the ballot of a node with those results.
func ballot(node int, results []byte, disclosed bool, in string) Ballot {
	vote := dems.Vote{Node: id(node), Incarnation: 1, Index: 1, Results: dems.DigestOf(results), State: state(in)}
	if !disclosed {
		results = nil
	}
	return NewBallot(&vote, results)
}

func boxOf(ballots ...Ballot) *Box {
	var box Box
	for _, b := range ballots {
		box.Cast(b)
	}
	return &box
}

// whole decides a box that has a majority.
func whole(t *testing.T, box *Box, voters Voters) Decision {
	t.Helper()
	count := box.Tally(voters)
	if !count.Won {
		t.Fatalf("no majority: %+v", count)
	}
	return box.Decide(voters, &count)
}

func TestJudge(t *testing.T) {
	right := encode(1, 2)
	d := whole(t, boxOf(ballot(1, right, true, "s"), ballot(2, right, false, "s")), votersOf(3))
	contradicted := ballot(3, right, false, "s")
	contradicted.add(&Ballot{Index: 1, Results: dems.DigestOf(encode(7))})
	elsewhere := ballot(3, encode(9, 9), true, "x")
	elsewhere.Index = 2
	for name, test := range map[string]struct {
		ballot Ballot
		want   Finding
	}{
		"the same":                  {ballot(3, right, false, "s"), Right},
		"state forgotten":           {ballot(3, right, false, ""), Right},
		"other state":               {ballot(3, right, false, "x"), Wrong},
		"other results":             {ballot(3, encode(1, 3), false, "s"), Different},
		"other results and state":   {ballot(3, encode(1, 3), true, "x"), Wrong},
		"other results, no state":   {ballot(3, encode(1, 3), true, ""), Different},
		"other bytes than its vote": {contradicted, Wrong},
		"another entry":             {elsewhere, Unrelated},
	} {
		if got := d.Judge(&test.ballot); got != test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}

// A state that is the majority's only by those who do not know theirs convicts nobody.
func TestUnknownStatesConvictNobody(t *testing.T) {
	right := encode(1)
	d := whole(t, boxOf(ballot(1, right, true, "s"), ballot(2, right, false, "")), votersOf(3))
	other := ballot(3, right, true, "x")
	if got := d.Judge(&other); got != Right {
		t.Errorf("got %v", got)
	}
}

func TestCompare(t *testing.T) {
	right := encode(1, 2, 3)
	d := whole(t, boxOf(ballot(1, right, true, "s"), ballot(2, right, false, "s")), votersOf(3))
	for name, test := range map[string]struct {
		results []byte
		want    []Finding
	}{
		"equal":    {right, []Finding{Right, Right, Right}},
		"one":      {encode(1, 9, 3), []Finding{Right, Wrong, Right}},
		"all":      {encode(4, 9, 8), []Finding{Wrong, Wrong, Wrong}},
		"too few":  {encode(1, 2), []Finding{Wrong, Wrong, Wrong}},
		"too many": {encode(1, 2, 3, 4), []Finding{Wrong, Wrong, Wrong}},
		"rubbish":  {[]byte("rubbish"), []Finding{Wrong, Wrong, Wrong}},
		"nothing":  {nil, []Finding{Wrong, Wrong, Wrong}},
	} {
		got := d.Compare(test.results)
		findings := make([]Finding, len(got))
		for i := range got {
			findings[i] = got[i].Finding
			if got[i].Finding == Wrong && got[i].Expected.Event.Capacity != uint32(i+1) {
				t.Errorf("%s: expected %+v", name, got[i].Expected)
			}
		}
		equal(t, test.want, findings)
	}
}

// Where the nodes do not know the session, the batch as a whole is what was asked.
func TestCompareNoResults(t *testing.T) {
	none := dems.AppendResults(nil, nil)
	d := whole(t, boxOf(ballot(1, none, true, "s"), ballot(2, none, false, "s")), votersOf(3))
	equal(t, []Comparison{{Finding: Right}}, d.Compare(none))
	equal(t, []Comparison{{Finding: Wrong}}, d.Compare(encode(1, 2)))
}

func TestDecideEach(t *testing.T) {
	for name, test := range map[string]struct {
		voters   int
		ballots  []Ballot
		agreeing []int
	}{
		"wrong in different places": {3, []Ballot{
			ballot(1, encode(9, 2), true, "s"), ballot(2, encode(1, 9), true, "s"), ballot(3, encode(1, 2), true, "s"),
		}, []int{2, 2}},
		"one command open": {3, []Ballot{
			ballot(1, encode(9, 2), true, "s"), ballot(2, encode(8, 2), true, "s"), ballot(3, encode(1, 2), true, "s"),
		}, []int{0, 3}},
		"another state has no say": {3, []Ballot{
			ballot(1, encode(9, 2), true, "x"), ballot(2, encode(9, 2), true, "s"), ballot(3, encode(1, 2), true, "s"),
		}, []int{0, 2}},
		"three states": {3, []Ballot{
			ballot(1, encode(1, 2), true, "x"), ballot(2, encode(1, 2), true, "y"), ballot(3, encode(1, 2), true, "s"),
		}, []int{0, 0}},
		"a forgotten state": {3, []Ballot{
			ballot(1, encode(9, 2), true, ""), ballot(2, encode(1, 2), true, "y"), ballot(3, encode(1, 3), true, "s"),
		}, []int{0, 2}},
		"undisclosed": {3, []Ballot{
			ballot(1, encode(9, 2), false, "s"), ballot(2, encode(1, 9), true, "s"), ballot(3, encode(1, 2), true, "s"),
		}, []int{2, 0}},
		"does not fit": {3, []Ballot{
			ballot(1, encode(1, 2, 3), true, "s"), ballot(2, encode(1, 9), true, "s"), ballot(3, encode(1, 2), true, "s"),
		}, []int{2, 0}},
		"nobody": {3, nil, []int{0, 0}},
		"of five": {5, []Ballot{
			ballot(1, encode(9, 2), true, "s"), ballot(2, encode(1, 9), true, "s"), ballot(3, encode(1, 2), true, "s"),
			ballot(4, encode(1, 8), true, "s"), ballot(5, encode(7, 2), true, "s"),
		}, []int{3, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			d := boxOf(test.ballots...).DecideEach(votersOf(test.voters), 2)
			var agreeing []int
			for _, command := range d.Each {
				agreeing = append(agreeing, command.Agreeing)
			}
			equal(t, test.agreeing, agreeing)
			if d.Decided() != (agreeing[0]+agreeing[1] > 0) {
				t.Errorf("decided: %v", d.Decided())
			}
		})
	}
}

func TestJudgeEach(t *testing.T) {
	d := boxOf(
		ballot(1, encode(9, 2, 5), true, "s"), ballot(2, encode(1, 9, 6), true, "s"), ballot(3, encode(1, 2, 7), true, "s"),
	).DecideEach(votersOf(3), 3)
	first := ballot(1, encode(9, 2, 5), true, "s")
	if got := d.Judge(&first); got != Different {
		t.Errorf("got %v", got)
	}
	var findings []Finding
	for _, c := range d.Compare(first.Bytes) {
		findings = append(findings, c.Finding)
	}
	equal(t, []Finding{Wrong, Right, Unrelated}, findings)
	undecided := boxOf(first).DecideEach(votersOf(3), 3)
	if got := undecided.Judge(&first); got != Unrelated {
		t.Errorf("judged without a decision: %v", got)
	}
}
