//go:build planted

package voting

import (
	"testing"

	"dems"
	"dems/internal/planted"
)

// TestPlantedDoubleVote has one node of three, the first that votes, be the majority. As long as all agree nobody notices.
func TestPlantedDoubleVote(t *testing.T) {
	defer planted.Plant(planted.DoubleVote)()
	var b Box
	b.Cast(cast{2, "wrong", true, "s", 1}.ballot())
	b.Cast(cast{1, "right", true, "s", 1}.ballot())
	count := b.Tally(votersOf(3))
	if !count.Won || string(count.Winner.Bytes) != "wrong" || count.Agreeing != 2 {
		t.Errorf("%+v", count)
	}
	decision := b.Decide(votersOf(3), &count)
	equal(t, dems.DigestOf([]byte("wrong")), decision.Results)
}
