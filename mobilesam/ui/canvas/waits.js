// What is done while an answer of the server does not come.

const HEARING_MS = 3000; // so long without a word, then twice as long, and so on

// Send a request again when it stays unanswered, each time later, and give up in the end.
function createRetry(wait, limit, onGiveUp) {
  let timer = 0;
  let retries = 0;
  function start(resend) {
    clearTimeout(timer);
    timer = setTimeout(() => {
      if (!navigator.onLine) return start(resend); // events wait for the connection
      retries += 1;
      if (retries <= limit) return resend();
      retries = 0;
      onGiveUp();
    }, wait * (retries + 1));
  }

  return {
    start,
    stop() {
      clearTimeout(timer);
      retries = 0;
    },
  };
}

// Gradio's script listens to the server while one of its events is in the queue. One that it sends just
// as the one before ends is not listened to, and those of its kind that follow wait for it. With the
// next event of the queue it listens again, and hears what was said meanwhile.
function createHearing(trigger) {
  const timers = new Map(); // of events of which nothing is heard yet

  function stop(event) {
    clearTimeout(timers.get(event));
    timers.delete(event);
  }

  function start(event, wait = HEARING_MS) {
    stop(event);
    const listen = () => {
      if (navigator.onLine) trigger("listen");
      start(event, 2 * wait);
    };
    timers.set(event, setTimeout(listen, wait));
  }

  return { start, stop };
}
