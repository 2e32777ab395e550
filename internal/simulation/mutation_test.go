package simulation

import (
	"regexp"
	"testing"
)

// TestMutations breaks one thing at a time, and has the checks find it. A check that nothing can fail checks nothing.
func TestMutations(t *testing.T) {
	const mostSeeds = 200
	for mutation, found := range map[Mutation]string{
		FewerVotes:  `answers|was right all its life`,
		FirstAnswer: `answers read`,
		LateIsWrong: `was right all its life`,
		Gullible:    `was right all its life`,
		Blind:       `after the network healed: .* (is wrong|has a wrong state) and was not convicted`,
		Hasty:       `empties itself`,
		Impatient:   `replacements at once`,
		OldLife:     `after the network healed`,
		Unproven:    `taken over a wrong state|was right all its life`,
		Stranded:    `after the network healed: fe. has had no answers`,
	} {
		t.Run(string(mutation), func(t *testing.T) {
			t.Parallel()
			expected := regexp.MustCompile(found)
			for seed := range uint64(mostSeeds) {
				outcome := Run(Options{Seed: seed, Mutation: mutation})
				if outcome.Err == nil {
					continue
				}
				if !expected.MatchString(outcome.Err.Error()) {
					t.Errorf("seed %d: %v, which does not match %s", seed, outcome.Err, found)
				}
				t.Logf("seed %d: %v", seed, outcome.Err)
				return
			}
			t.Errorf("%d seeds, and nothing was found", mostSeeds)
		})
	}
}
