from seg.errors import nearest


def test_a_near_word_is_suggested():
    assert nearest("corp", ["crop", "scale"]) == "; did you mean 'crop'?"


def test_all_words_are_listed_where_none_is_near():
    assert nearest("xyz", ["crop", 5]) == "; known here: crop, 5"
