package report

import "slices"

// Summary is what several rounds have in common.
type Summary struct {
	Scenario string // "" of all rounds together
	Rounds   int
	Ended    int // after how many every node was a healthy voter again
	// Of those that apply and were seen:
	Elect, Convict, Repair Spread
	// Of all rounds:
	WritePause, ReadPause Spread
	Unanswered            uint64 // operations, once for every round that they were on their way in
}

// Spread is what times have in common. Without any it is zero.
type Spread struct {
	Count    int
	MedianMS float64 // the lower one of the two in the middle
	MaxMS    float64
}

// Summaries returns one summary for each scenario, in the order of their first rounds.
func (r *Report) Summaries() []Summary {
	var names []string
	rounds := map[string][]Round{}
	for _, round := range r.Rounds {
		if _, known := rounds[round.Scenario]; !known {
			names = append(names, round.Scenario)
		}
		rounds[round.Scenario] = append(rounds[round.Scenario], round)
	}
	list := make([]Summary, 0, len(names))
	for _, name := range names {
		summary := summarize(rounds[name])
		summary.Scenario = name
		list = append(list, summary)
	}
	return list
}

// Total returns the summary of all rounds.
func (r *Report) Total() Summary { return summarize(r.Rounds) }

func summarize(rounds []Round) Summary {
	summary := Summary{Rounds: len(rounds)}
	for _, round := range rounds {
		summary.Unanswered += round.Unanswered
		if round.EndedAt > 0 {
			summary.Ended++
		}
	}
	seen := func(of func(*Round) float64) Spread {
		return spreadOf(rounds, of, func(ms float64) bool { return ms > 0 })
	}
	all := func(of func(*Round) float64) Spread {
		return spreadOf(rounds, of, func(float64) bool { return true })
	}
	summary.Elect = seen(func(round *Round) float64 { return round.ElectMS })
	summary.Convict = seen(func(round *Round) float64 { return round.ConvictMS })
	summary.Repair = seen(func(round *Round) float64 { return round.RepairMS })
	summary.WritePause = all(func(round *Round) float64 { return round.WritePauseMS })
	summary.ReadPause = all(func(round *Round) float64 { return round.ReadPauseMS })
	return summary
}

func spreadOf(rounds []Round, of func(*Round) float64, counts func(ms float64) bool) Spread {
	var times []float64
	for i := range rounds {
		if ms := of(&rounds[i]); counts(ms) {
			times = append(times, ms)
		}
	}
	if len(times) == 0 {
		return Spread{}
	}
	slices.Sort(times)
	return Spread{Count: len(times), MedianMS: times[(len(times)-1)/2], MaxMS: times[len(times)-1]}
}
