package voting

import (
	"bytes"

	"dems"
)

// Finding is what a ballot, or one request, is found to be in the light of a decision.
type Finding uint8

// The findings.
const (
	Unrelated Finding = iota // it is about another entry, or nothing was decided: neither right nor wrong
	Right                    // what the majority has
	Wrong                    // something else
	Different                // the results differ: which requests are wrong they have to tell
)

// Decision is what a majority of the voters got for a batch.
type Decision struct {
	Index   uint64
	State   dems.Digest // that a majority knows; zero: no majority does
	Whole   bool        // a majority has the same results for the whole batch
	Results dems.Digest // Whole only
	Bytes   []byte      // Whole only: the encoded results
	Each    []Command   // otherwise: what a majority has for each command
}

// Command is what a majority has for one command.
type Command struct {
	Result   dems.Result
	Agreeing int    // 0: there is no majority
	encoded  string // the result
}

// Decide returns the decision of a vote that was won.
func (b *Box) Decide(voters Voters, count *Count) Decision {
	var room [2 * mostBallots]*Ballot
	counting := b.counting(voters, room[:0])
	return Decision{
		Index: count.Winner.Index, State: known(counting, count.Winner.Index, voters), Whole: true,
		Results: count.Winner.Results, Bytes: count.Winner.Bytes,
	}
}

// DecideEach decides a split vote command by command: nodes that were wrong in different places still leave a majority for
// every command. A node whose state is not the majority's has no say, and without a majority for the state nothing is decided.
func (b *Box) DecideEach(voters Voters, commands int) Decision {
	counting := b.counting(voters, nil)
	index := decisive(counting)
	d := Decision{Index: index, Each: make([]Command, commands)}
	state, ok := stateOf(counting, index, voters)
	if !ok {
		return d
	}
	d.State = known(counting, index, voters)
	var decoded [][]dems.Result
	for _, c := range counting {
		if c.Index != index || c.State != state && c.State != (dems.Digest{}) {
			continue
		}
		encoded := disclosed(counting, c)
		if results, err := dems.DecodeResults(encoded); encoded != nil && err == nil && len(results) == commands {
			decoded = append(decoded, results)
		}
	}
	for i := range d.Each {
		got := map[string]int{}
		for _, results := range decoded {
			encoded := string(dems.AppendResult(nil, &results[i]))
			if got[encoded]++; got[encoded] >= voters.Majority() {
				d.Each[i] = Command{Result: results[i], Agreeing: got[encoded], encoded: encoded}
			}
		}
	}
	return d
}

// known returns the state that a majority knows itself to have: only it convicts others. Zero where there is none.
func known(counting []*Ballot, index uint64, voters Voters) dems.Digest {
	for _, candidate := range counting {
		if candidate.Index != index || candidate.State == (dems.Digest{}) {
			continue
		}
		same := 0
		for _, other := range counting {
			if other.Index == index && other.State == candidate.State {
				same++
			}
		}
		if same >= voters.Majority() {
			return candidate.State
		}
	}
	return dems.Digest{}
}

// Decided tells whether anything was decided.
func (d *Decision) Decided() bool {
	for i := range d.Each {
		if d.Each[i].Agreeing > 0 {
			return true
		}
	}
	return d.Whole
}

// Judge compares a ballot with the decision. A state that differs, and a node that contradicts itself, make all its requests
// wrong. Of Different results Compare tells which.
func (d *Decision) Judge(b *Ballot) Finding {
	switch {
	case b.Index != d.Index || !d.Decided():
		return Unrelated
	case b.Contradicted || d.differs(b.State):
		return Wrong
	case d.Whole && b.Results == d.Results:
		return Right
	}
	return Different
}

// differs tells whether a state is certainly not the majority's.
func (d *Decision) differs(state dems.Digest) bool {
	return d.State != dems.Digest{} && state != dems.Digest{} && state != d.State
}

// Comparison is one command's result beside the majority's.
type Comparison struct {
	Finding            Finding // Unrelated where the command has no majority
	Expected, Answered dems.Result
}

// Compare compares a node's results of a batch with the decision, command by command. Results that cannot be read, or do
// not fit the batch, are wrong for all of it, with nothing in Answered.
func (d *Decision) Compare(results []byte) []Comparison {
	each := d.Each
	if d.Whole {
		expected, err := dems.DecodeResults(d.Bytes)
		if err != nil || len(expected) == 0 { // the batch as a whole is what was asked
			finding := Wrong
			if bytes.Equal(results, d.Bytes) {
				finding = Right
			}
			return []Comparison{{Finding: finding}}
		}
		each = make([]Command, len(expected))
		for i := range expected {
			each[i] = Command{Result: expected[i], Agreeing: 1, encoded: string(dems.AppendResult(nil, &expected[i]))}
		}
	}
	answered, err := dems.DecodeResults(results)
	fits := err == nil && len(answered) == len(each)
	all := make([]Comparison, len(each))
	for i := range each {
		switch {
		case each[i].Agreeing == 0:
		case !fits:
			all[i] = Comparison{Finding: Wrong, Expected: each[i].Result}
		case string(dems.AppendResult(nil, &answered[i])) == each[i].encoded:
			all[i].Finding = Right
		default:
			all[i] = Comparison{Finding: Wrong, Expected: each[i].Result, Answered: answered[i]}
		}
	}
	return all
}
