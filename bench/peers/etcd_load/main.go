// Command etcd-load is a client process of etcd for the benchmarks: it does one
// load and prints one JSON object with the samples (see bench/load.py).
//
// Build on Debian: apt-get install golang-go golang-etcd-server-dev, then
// GO111MODULE=off GOPATH=/usr/share/gocode go build -o etcd-load .
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.uber.org/zap"
)

// A call that is given up is made again. etcd never answers what a lost leader had not yet
// done, so that without this a caller would wait for long, whatever the cluster does.
const callTimeout = 300 * time.Millisecond

// The same for a value so large that it may take as long.
const largeTimeout = 5 * time.Second

const large = 50000

const connectTimeout = 10 * time.Second
const pauseAfterError = 20 * time.Millisecond

var (
	addresses = flag.String("addresses", "", "comma-separated client URLs")
	operation = flag.String("operation", "put", "set, put, get, version or duel")
	callers   = flag.Int("callers", 1, "concurrent callers")
	seconds   = flag.Float64("seconds", 1, "how long")
	size      = flag.Int("size", 100, "bytes of a value")
	keys      = flag.Int("keys", 1000, "keys that each caller puts to")
	count     = flag.Int64("count", 0, "stop after so many calls, if not 0")
	name      = flag.String("name", "load", "begins the names of the keys")
)

// A caller makes one call after the other.
type caller struct {
	client   *clientv3.Client
	own      string
	number   int
	revision int64 // of its key: what a duel compares, what a version is read at
	samples  [][4]float64
	errors   int
}

// call makes one call; a duel's is an attempt, and may lose.
func (c *caller) call(ctx context.Context, number int, value string) (done bool, err error) {
	switch *operation {
	case "set":
		key := fmt.Sprintf("%s-%d", c.own, number)
		// If the key is there already, an attempt that was given up has made it.
		_, err = c.client.Txn(ctx).
			If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
			Then(clientv3.OpPut(key, value)).Commit()
	case "put":
		_, err = c.client.Put(ctx, fmt.Sprintf("%s-%d", c.own, number%*keys), value)
	case "get":
		_, err = c.client.Get(ctx, c.own)
	case "version":
		_, err = c.client.Get(ctx, c.own, clientv3.WithRev(c.revision))
	case "duel":
		return c.attempt(ctx, value)
	}
	return err == nil, err
}

// attempt compares the revision it knows, and sets; who loses learns the revision.
func (c *caller) attempt(ctx context.Context, value string) (bool, error) {
	if c.revision < 0 {
		g, err := c.client.Get(ctx, "duel")
		if err != nil {
			return false, err
		}
		c.revision = 0
		if len(g.Kvs) > 0 {
			c.revision = g.Kvs[0].ModRevision
		}
	}
	r, err := c.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision("duel"), "=", c.revision)).
		Then(clientv3.OpPut("duel", value)).
		Else(clientv3.OpGet("duel")).Commit()
	if err != nil {
		c.revision = -1
		return false, err
	}
	if r.Succeeded {
		c.revision = r.Header.Revision
	} else if kvs := r.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
		c.revision = kvs[0].ModRevision
	}
	return r.Succeeded, nil
}

// work calls until the end, or until the calls are used up.
func (c *caller) work(end time.Time, left *int64, value string) {
	timeout := callTimeout
	if *size > large {
		timeout = largeTimeout
	}
	began := time.Now()
	attempts := 0
	for number := 0; *count > 0 || time.Now().Before(end); {
		if *count > 0 && attempts == 0 && atomic.AddInt64(left, -1) < 0 {
			return
		}
		attempts++
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		done, err := c.call(ctx, number, value)
		cancel()
		if err != nil {
			c.errors++
			time.Sleep(pauseAfterError)
		}
		if !done {
			continue
		}
		now := time.Now()
		c.samples = append(c.samples, [4]float64{
			float64(now.UnixNano()) / 1e9, now.Sub(began).Seconds(), float64(c.number), float64(attempts)})
		began = now
		attempts = 0
		number++
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func main() {
	flag.Parse()
	list := strings.Split(*addresses, ",")
	value := strings.Repeat("v", *size)
	all := make([]*caller, *callers)
	var clients []*clientv3.Client
	quiet := zap.NewProductionConfig()
	quiet.Level.SetLevel(zap.FatalLevel)
	for i := range all {
		// A connection to each member, shared by the callers; duellists have one of their own.
		if i < len(list) || *operation == "duel" {
			config := clientv3.Config{Endpoints: []string{list[i%len(list)]}, DialTimeout: connectTimeout, LogConfig: &quiet}
			client, err := clientv3.New(config)
			if err != nil {
				fail(err)
			}
			clients = append(clients, client)
		}
		all[i] = &caller{client: clients[i%len(clients)], own: fmt.Sprintf("%s-%d", *name, i), number: i, revision: -1}
		ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
		if *operation == "get" || *operation == "version" {
			r, err := all[i].client.Put(ctx, all[i].own, value)
			if err != nil {
				fail(err)
			}
			all[i].revision = r.Header.Revision
		} else if _, err := all[i].client.Get(ctx, "duel"); err != nil {
			fail(err)
		}
		cancel()
	}
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadString('\n')

	end := time.Now().Add(time.Duration(*seconds * float64(time.Second)))
	left := *count
	var group sync.WaitGroup
	for _, c := range all {
		group.Add(1)
		go func(c *caller) {
			defer group.Done()
			c.work(end, &left, value)
		}(c)
	}
	group.Wait()

	samples := [][4]float64{}
	errors := 0
	for _, c := range all {
		samples = append(samples, c.samples...)
		errors += c.errors
	}
	json.NewEncoder(os.Stdout).Encode(map[string]interface{}{"samples": samples, "errors": errors})
}
