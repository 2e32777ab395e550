package simulation

import (
	"regexp"
	"testing"
)

// TestMutations breaks one thing at a time, and has the checks find it. A check that nothing can fail checks nothing.
func TestMutations(t *testing.T) {
	const mostSeeds = 300
	for mutation, test := range map[Mutation]struct {
		from  uint64 // the first seed that is played: near one that is known to show it
		found string
	}{
		FewerVotes:  {0, `answers|was right all its life`},
		FirstAnswer: {0, `answers read`},
		LateIsWrong: {0, `was right all its life`},
		Gullible:    {0, `was right all its life`},
		Blind:       {0, `after the network healed: .* (is wrong|has a wrong state) and was not convicted`},
		Hasty:       {0, `empties itself`},
		Impatient:   {20, `replacements at once`},
		OldLife:     {0, `after the network healed`},
		Unproven:    {0, `taken over a wrong state|was right all its life`},
		Stranded:    {130, `after the network healed: fe. has had no answers`},
	} {
		t.Run(string(mutation), func(t *testing.T) {
			t.Parallel()
			expected := regexp.MustCompile(test.found)
			for seed := test.from; seed < test.from+mostSeeds; seed++ {
				outcome := Run(Options{Seed: seed, Mutation: mutation})
				if outcome.Err == nil {
					continue
				}
				if !expected.MatchString(outcome.Err.Error()) {
					t.Errorf("seed %d: %v, which does not match %s", seed, outcome.Err, test.found)
				}
				t.Logf("seed %d: %v", seed, outcome.Err)
				return
			}
			t.Errorf("%d seeds, and nothing was found", mostSeeds)
		})
	}
}
