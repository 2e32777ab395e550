package report

import (
	"encoding/xml"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestTook(t *testing.T) {
	for ms, want := range map[float64]string{
		0: "0 ms", -1: "0 ms", math.NaN(): "0 ms", 0.001: "0.00 ms", 1.234: "1.23 ms", 9.994: "9.99 ms", 9.996: "10.0 ms",
		99.94: "99.9 ms", 99.96: "100 ms", 812.5: "812 ms", 999.4: "999 ms", 999.6: "1.00 s", 9994: "9.99 s", 9996: "10.0 s",
		119_900: "119.9 s", 120_000: "2 min 0 s", 125_400: "2 min 5 s", 3_599_900: "1 h 0 min", 7_260_000: "2 h 1 min",
		math.Inf(1): "87,600 h 0 min",
	} {
		if got := took(ms); got != want {
			t.Errorf("%v ms: %q, want %q", ms, got, want)
		}
	}
	if seen(0) != "–" || seen(math.NaN()) != "–" || seen(1) != "1.00 ms" {
		t.Errorf("%q, %q, %q", seen(0), seen(math.NaN()), seen(1))
	}
}

func TestClock(t *testing.T) {
	for seconds, want := range map[float64]string{
		0: "0:00.0", -3: "0:00.0", math.NaN(): "0:00.0", 4.04: "0:04.0", 59.96: "1:00.0", 61.25: "1:01.3", 3599.9: "59:59.9",
		3600: "1:00:00.0", 36_000: "10:00:00.0", math.Inf(1): "87600:00:00.0",
	} {
		if got := clock(seconds); got != want {
			t.Errorf("%v s: %q, want %q", seconds, got, want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0", 999: "999", 1000: "1,000", 123456: "123,456", 1234567: "1,234,567", math.MaxUint64: "18,446,744,073,709,551,615",
	} {
		if got := number(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	if got := count(1, "round", "rounds") + count(2000, "round", "rounds"); got != "1 round2,000 rounds" {
		t.Error(got)
	}
	for _, test := range []struct {
		part, whole uint64
		want        string
	}{
		{0, 0, ""}, {0, 10, "0 %"}, {10, 10, "100 %"}, {1, 1_000_000, "less than 0.01 %"}, {999_999, 1_000_000, "more than 99.9 %"},
		{123, 10_000, "1.2 %"}, {456, 1000, "45.6 %"},
	} {
		if got := share(test.part, test.whole); got != test.want {
			t.Errorf("%d of %d: %q, want %q", test.part, test.whole, got, test.want)
		}
	}
	for x, want := range map[float64]string{1: "1", 1.25: "1.2", -0.5: "-0.5", math.NaN(): "0", math.Inf(-1): "0", 104: "104"} {
		if got := coordinate(x); got != want {
			t.Errorf("%v: %q, want %q", x, got, want)
		}
	}
}

func TestPlain(t *testing.T) {
	for text, want := range map[string]string{
		"n2 does not answer": "n2 does not answer", "<b>&\"'": "<b>&\"'", "Montréal 東京": "Montréal 東京",
		"two\nlines\tand": "two lines and", "\x1b[31m\x00": "�[31m�", "half \xc3": "half �", "turned \u202etxt": "turned �txt",
		"\ufeff\u200b\uffff": "���", strings.Repeat("é", mostRunes): strings.Repeat("é", mostRunes),
		strings.Repeat("é", mostRunes+1): strings.Repeat("é", mostRunes) + "…",
	} {
		if got := plain(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		text := string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")) + rapid.String().Draw(t, "text")
		shown := plain(text)
		var escaped strings.Builder
		if err := xml.EscapeText(&escaped, []byte(shown)); err != nil || strings.ContainsFunc(shown, func(r rune) bool { return r < ' ' }) {
			t.Errorf("%q is shown as %q: %v", text, shown, err)
		}
		if plain(shown) != shown && !strings.HasSuffix(shown, "…") {
			t.Errorf("%q becomes %q", shown, plain(shown))
		}
	})
}
