"""What is read beside the counts: counters, foreign load, reference speeds, sizes of NAPI polls, facts about the host."""
