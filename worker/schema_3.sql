-- 3: what failed in a channel, at hand
CREATE INDEX requests_failed ON requests (session_key, epoch) WHERE state = 'failed';
