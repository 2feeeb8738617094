use super::*;

#[test]
fn ordinals_are_those_of_english() {
    let shown = [1, 2, 3, 4, 11, 12, 13, 21, 22, 31].map(|n| Ordinal(n).to_string());
    let expected = "1st 2nd 3rd 4th 11th 12th 13th 21st 22nd 31st";
    assert_eq!(shown.join(" "), expected);
}

#[test]
fn two_numbers_in_a_word_come_out_as_they_were_meant() {
    let figure = unpack(pack(Some(0.35), Some(1e-9))).unwrap();
    assert_eq!((figure.value, figure.threshold), (0.35, Some(1e-9)));
    assert_eq!(unpack(pack(Some(7.0), None)).unwrap().threshold, None);
    assert_eq!(unpack(pack(None, None)), None);
}
