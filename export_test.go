package freshtoken

// StoreKey is the key under which a Source of cfg keeps its session.
func StoreKey(cfg Config) string {
	if err := cfg.check(); err != nil {
		panic(err)
	}
	return cfg.binding().key()
}

// SetRandom replaces the randomness of delays, so that a run can be repeated.
func (s *Source) SetRandom(random func() float64) {
	s.random = random
	s.jitter = random()
}
