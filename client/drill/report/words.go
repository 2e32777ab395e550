package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const mostRunes = 400 // of one text on the page

// plain makes a text that came from elsewhere fit to be shown: without control and formatting characters, which could turn text
// around or are none in XML, without half characters, and not too long.
func plain(text string) string {
	var b strings.Builder
	count := 0
	for _, r := range text {
		if count++; count > mostRunes {
			b.WriteString("…")
			break
		}
		switch {
		case r == '\n' || r == '\t':
			r = ' '
		case !unicode.IsPrint(r) && r != '\u00a0':
			r = utf8.RuneError
		}
		b.WriteRune(r)
	}
	return b.String()
}

// number writes 1234567 as 1,234,567.
func number[T int | uint64](n T) string {
	digits := strconv.FormatUint(uint64(n), 10)
	var b strings.Builder
	for i, digit := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(digit)
	}
	return b.String()
}

// count writes a number of things, of one or of several.
func count[T int | uint64](n T, one, several string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + several
}

// took writes a duration in milliseconds with about three digits.
func took(ms float64) string {
	switch {
	case !(ms > 0):
		return "0 ms"
	case ms < 9.995:
		return strconv.FormatFloat(ms, 'f', 2, 64) + " ms"
	case ms < 99.95:
		return strconv.FormatFloat(ms, 'f', 1, 64) + " ms"
	case ms < 999.5:
		return strconv.FormatFloat(ms, 'f', 0, 64) + " ms"
	case ms < 9995:
		return strconv.FormatFloat(ms/1000, 'f', 2, 64) + " s"
	case ms < 119_950:
		return strconv.FormatFloat(ms/1000, 'f', 1, 64) + " s"
	}
	whole := uint64(math.Round(min(ms/1000, mostSeconds)))
	if hours := whole / 3600; hours > 0 {
		return fmt.Sprintf("%s h %d min", number(hours), whole/60%60)
	}
	return fmt.Sprintf("%d min %d s", whole/60, whole%60)
}

// seen writes a duration that is 0 where there is none.
func seen(ms float64) string {
	if !(ms > 0) {
		return "–"
	}
	return took(ms)
}

// clock writes when something happened since the drill began, to a tenth of a second.
func clock(seconds float64) string {
	if !(seconds > 0) {
		seconds = 0
	}
	tenths := uint64(math.Round(min(seconds, mostSeconds) * 10))
	return hands(tenths/10) + "." + strconv.FormatUint(tenths%10, 10)
}

// hands writes whole seconds as a clock shows them.
func hands(whole uint64) string {
	if whole < 3600 {
		return fmt.Sprintf("%d:%02d", whole/60, whole%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", whole/3600, whole/60%60, whole%60)
}

// coordinate writes a number for a drawing. What is no number is 0.
func coordinate(x float64) string {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		x = 0
	}
	text := strconv.FormatFloat(x, 'f', 1, 64)
	return strings.TrimSuffix(text, ".0")
}
