package measure

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshtoken/freshtoken/bench/peers"
)

// Storm is an access token that is revoked long before it expires, when a
// thousand callers send a request each, half of them with a body. The API takes
// 100 to 300 ms, so that all requests are on their way when the first is
// rejected; and most of the rejections come when there is a new token already.
// Who gets a 401 tries again 10 ms later. The libraries take turns.
var Storm = Measure{
	Name: "storm",
	Doc:  "1,000 requests are under way when their token is revoked",
	Run:  storm,
}

const (
	stormCallers  = 1000
	stormPatience = 3 * time.Second // of those who get a 401 again and again
)

func storm(ctx context.Context, o Options) ([]Result, error) {
	rounds, patience := min(max(o.Rounds, 1), 3), stormPatience
	if o.Smoke {
		rounds, patience = 1, time.Second
	}
	return inTurns(ctx, "storm", o, rounds, patience+10*time.Second, func(ctx context.Context, _ int, p peers.Peer) (Result, error) {
		return stormOver(ctx, p, patience)
	})
}

func stormOver(ctx context.Context, p peers.Peer, patience time.Duration) (Result, error) {
	w := newWorld(time.Hour)
	w.answer = 50 * time.Millisecond
	rt, end, err := w.open(p, 10*time.Second)
	if err != nil {
		return Result{}, err
	}
	defer end()
	if err := warmUp(ctx, rt); err != nil {
		return Result{}, err
	}
	w.pace = func(n int) time.Duration {
		return 100*time.Millisecond + time.Duration(n%stormCallers)*200*time.Millisecond/stormCallers
	}
	w.revoke()
	before := len(w.log())
	var caught, saw, failing, errs atomic.Int64
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	start := time.Now()
	client := &http.Client{Transport: rt}
	var wg sync.WaitGroup
	for i := range stormCallers {
		wg.Go(func() {
			c := stormCaller{client: client, body: stormBody(i)}
			c.insist(ctx)
			saw.Add(int64(c.saw))
			errs.Add(int64(c.errs))
			if c.saw > 0 {
				caught.Add(1)
			}
			if !c.served {
				failing.Add(1)
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	rejected, damaged := w.counts()
	r := Result{
		Values: map[string]float64{
			"caught.count":       float64(caught.Load()), // callers that got a 401
			"unauthorized.count": float64(saw.Load()),    // 401s that callers got
			"errors.count":       float64(errs.Load()),
			"calls.count":        float64(len(w.log()) - before),
			"rejected.count":     float64(rejected), // 401s that the API has sent
			"damaged.count":      float64(damaged),
			"failing.count":      float64(failing.Load()),
		},
		Words: map[string]string{"all served": yes(failing.Load() == 0)},
	}
	if failing.Load() == 0 {
		r.Values["served.s"] = took.Seconds()
	} else {
		r.Note = fmt.Sprintf("%d of %d callers still got 401 after %v", failing.Load(), stormCallers, patience)
	}
	return r, nil
}

// stormBody is the body of every other caller's request, of up to 8 KiB.
func stormBody(i int) []byte {
	if i%2 != 0 {
		return nil
	}
	return bytes.Repeat(fmt.Appendf(nil, "request %4d, ", i), 1+i*8192/13/stormCallers)
}

// A stormCaller repeats a request until it is served.
type stormCaller struct {
	client    *http.Client
	body      []byte // nil: none
	saw, errs int
	served    bool
}

func (c *stormCaller) insist(ctx context.Context) {
	for !c.served && ctx.Err() == nil {
		req := get(context.WithoutCancel(ctx), apiURL)
		if c.body != nil {
			var err error
			if req, err = http.NewRequestWithContext(req.Context(), http.MethodPost, apiURL, bytes.NewReader(c.body)); err != nil {
				panic(err) // the address is a constant
			}
			req.Header.Set(sumHeader, fmt.Sprint(crc32.ChecksumIEEE(c.body)))
		}
		resp, err := c.client.Do(req)
		switch {
		case err != nil:
			c.errs++
		case resp.StatusCode == http.StatusUnauthorized:
			c.saw++
		default:
			c.served = resp.StatusCode == http.StatusOK
		}
		if err == nil {
			resp.Body.Close()
		}
		if !c.served && pause(ctx, 10*time.Millisecond) != nil {
			return
		}
	}
}
