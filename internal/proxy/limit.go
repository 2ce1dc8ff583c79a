package proxy

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Rate is a number of requests in a time. The zero value is no limit.
type Rate struct {
	N   int
	Per time.Duration
}

// ParseRate reads "10/s", "600/m", "100/h" or "1000/d". The number is from 1 to
// 1,000,000,000; a day has 24 hours.
func ParseRate(s string) (Rate, error) {
	number, unit, ok := strings.Cut(s, "/")
	n, err := strconv.Atoi(number)
	per := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}[unit]
	if !ok || err != nil || n < 1 || n > 1e9 || per == 0 {
		return Rate{}, fmt.Errorf("%s is no rate: write a number and s, m, h or d, such as 10/s or 1000/d", strconv.QuoteToASCII(s[:min(len(s), 40)]))
	}
	return Rate{N: n, Per: per}, nil
}

// String returns the form that ParseRate reads.
func (r Rate) String() string {
	for unit, per := range map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour} {
		if per == r.Per {
			return strconv.Itoa(r.N) + "/" + unit
		}
	}
	return strconv.Itoa(r.N) + "/" + r.Per.String()
}

// limiter holds requests to two rates. The limit evens out: after N requests at
// once, the next ones come one by one, N in each Per. The quota is a sum: N in a
// Per that begins with the first request, and nothing more until it is over.
type limiter struct {
	limit, quota Rate

	mu     sync.Mutex
	room   float64 // requests that the limit still allows
	at     time.Time
	used   int // of the quota
	window time.Time
}

// take counts one request. It returns zero when it may be made, or how long to
// wait before another try, and which of the two rates is in the way. What is
// refused is not counted.
func (l *limiter) take(now time.Time) (wait time.Duration, which Rate) {
	if l.limit.N == 0 && l.quota.N == 0 {
		return 0, Rate{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.quota.N > 0 {
		if since := now.Sub(l.window); l.window.IsZero() || since >= l.quota.Per || since < 0 {
			l.window, l.used = now, 0
		}
		if l.used >= l.quota.N {
			return l.quota.Per - now.Sub(l.window), l.quota
		}
	}
	if l.limit.N > 0 {
		one := float64(l.limit.Per) / float64(l.limit.N) // the time of one request
		if l.at.IsZero() || now.Before(l.at) {
			l.room = float64(l.limit.N)
		} else {
			l.room = min(l.room+float64(now.Sub(l.at))/one, float64(l.limit.N))
		}
		l.at = now
		if l.room < 1 {
			return max(time.Duration((1-l.room)*one), 1), l.limit
		}
		l.room--
	}
	l.used++
	return 0, Rate{}
}
